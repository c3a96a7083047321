"""The generator: the same set whatever the number of workers and however often it is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wfm_sim.cli import main
from wfm_sim.data.physics import open_physics
from wfm_sim.errors import UserError
from wfm_sim.evals.physics.generate import GenerateSettings, choose_scenes, generate, verify

SETTINGS = GenerateSettings(("free_fall", "dominoes"), episodes=3, views=2, frames=6, size=(32, 48), seed=5)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("generated")
    seen: list[tuple[int, int]] = []
    result = generate(root, SETTINGS, 2, lambda done, total: seen.append((done, total)))
    assert (result.episodes, result.written) == (6, 6)
    assert seen == [(done, 6) for done in range(7)]
    return root


def test_episodes_are_what_was_asked_for(generated: Path) -> None:
    data = open_physics(generated)
    assert data.complete and data.scenes == ("free_fall", "dominoes")
    assert data.hash.startswith("sha256:") and len(data.manifest["files"]) == 6 * 5
    for scene in data.scenes:
        episodes = data.episodes(scene)
        assert [e.seed for e in episodes] == [5_000_000, 5_000_001, 5_000_002]
        for episode in episodes:
            assert (episode.size, len(episode), episode.views, episode.fps) == ((32, 48), 6, 2, 24)
            assert episode.about["scene"]["seed"] == episode.seed
            poses = episode.poses()
            assert poses.names == episode.names and len(poses.times) == 6
            for view in range(2):
                masks = episode.masks(view)
                assert episode.frames(view).shape == (6, 32, 48, 3)
                assert set(masks[0].ravel()) > {0} and masks.max() <= len(episode.names)
    assert verify(generated) == []


def test_masks_are_where_the_camera_says(generated: Path) -> None:
    """A body that is wholly in sight has its mask's centroid near its projected centre."""
    import numpy as np

    looked_at = 0
    for episode in open_physics(generated).episodes("free_fall"):
        camera, poses, mask = episode.camera(0), episode.poses(), episode.masks(0)[0]
        for body, position in enumerate(poses.positions[0]):
            seen = camera.intrinsics @ (camera.world_to_camera @ [*position, 1])[:3]
            rows, columns = np.nonzero(mask == body + 1)
            if len(rows) >= 6:
                off = np.hypot(columns.mean() + 0.5 - seen[0] / seen[2], rows.mean() + 0.5 - seen[1] / seen[2])
                assert off < 2.0
                looked_at += 1
    assert looked_at >= 3


def start(root: Path, workers: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "wfm_sim.cli", "physics", "generate", "--scenes", "free_fall,dominoes"]
    command += ["--episodes", "3", "--views", "2", "--frames", "6", "--size", "48x32", "--seed", "5"]
    command += ["--out", str(root), "--workers", str(workers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_until_gone(group: int, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("a worker outlived its parent")


@pytest.mark.slow
def test_killed_and_resumed_it_is_the_same_to_the_bit(generated: Path, tmp_path: Path) -> None:
    root = tmp_path / "set"
    kills = 0
    for turn in range(2):
        before = len(list(root.glob("*/0*")))
        process = start(root, workers=1 + turn)
        while len(list(root.glob("*/0*"))) <= before and process.poll() is None:
            time.sleep(0.01)
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        wait_until_gone(process.pid)
        assert not open_physics(root).complete
        with pytest.raises(UserError, match="is not complete"):
            verify(root)
    assert kills
    assert generate(root, SETTINGS, 1).written < 6
    assert (root / "manifest.json").read_bytes() == (generated / "manifest.json").read_bytes()
    assert not list(root.rglob(".partial-*"))


def test_more_episodes_may_be_asked_for_later_but_nothing_else(generated: Path, tmp_path: Path) -> None:
    few = GenerateSettings(("dominoes",), episodes=1, views=1, frames=2, size=(16, 16))
    generate(tmp_path, few)
    assert (
        generate(tmp_path, GenerateSettings(("dominoes",), episodes=2, views=1, frames=2, size=(16, 16))).written == 1
    )
    again = generate(tmp_path, few)  # fewer are there already
    assert (again.episodes, again.written) == (2, 0)
    with pytest.raises(UserError, match=r"was generated with seed 5, not with seed 6; choose another folder"):
        generate(generated, GenerateSettings(**{**vars(SETTINGS), "seed": 6}))
    (tmp_path / "dominoes/00000/view0.mp4").write_bytes(b"changed")
    assert verify(tmp_path) == ["dominoes/00000/view0.mp4"]
    assert main(["physics", "verify", str(tmp_path)]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scenes", "domino"], "unknown scene 'domino'; did you mean 'dominoes'?"),
        (["--scenes", ","], "no scene named"),
        (["--episodes", "0"], "episodes must be at least 1, not 0"),
        (["--views", "5"], "views must be 1 to 4, not 5"),
        (["--size", "big"], "size 'big': expected pixels"),
        (["--size", "8"], "size must be at least 16, not 8"),
        (["--backend", "phisx"], "unknown backend 'phisx'; did you mean 'physx'?"),
    ],
)
def test_bad_input_gets_one_sentence(options: list[str], message: str, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    assert main(["physics", "generate", "--out", str(tmp_path / "new"), *options]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said and "\n" not in said.splitlines()[-1]
    assert not (tmp_path / "new").exists()


def test_an_absent_engine_and_a_foreign_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata as metadata

    from wfm_sim.evals.physics import generate as module

    monkeypatch.setitem(module.BACKENDS, "isaac", "no-such-package-as-this")
    with pytest.raises(UserError, match=r"backend 'isaac' needs .*RTX GPU.*pip install 'wfm-sim\[isaac\]'"):
        generate(tmp_path / "new", GenerateSettings(("dominoes",), backend="isaac"))
    assert metadata.version("mujoco")
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(UserError, match=r"holds files but no manifest.json"):
        generate(tmp_path, SETTINGS)


def test_all_scenes_with_and_without_the_extensions() -> None:
    from wfm_sim.assets.physics import EXTENSIONS, SCENES

    assert choose_scenes("all") == tuple(SCENES)
    assert choose_scenes("all", extensions=True) == (*SCENES, *EXTENSIONS)
    assert choose_scenes("seesaw, dominoes,seesaw") == ("seesaw", "dominoes")
