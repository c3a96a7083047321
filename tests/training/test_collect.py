"""`collect`: the right content, and the same set of episodes however often it is killed."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from wfm_sim.actions import ACTION_HIGH, ACTION_LOW, Workspace, apply_action
from wfm_sim.data import open_dataset
from wfm_sim.errors import UserError
from wfm_sim.policies.scripted import FLAWS
from wfm_sim.training.collect import SHARES, CollectConfig, _choose_policy, collect, collect_episode, make_env
from wfm_sim.training.play import Play

EPISODES = 10


def digest(root: Path) -> dict[str, str]:
    """Path -> digest of every file of the data set."""
    files = [
        path for folder in ("annotation", "videos") for path in sorted((root / folder).rglob("*")) if path.is_file()
    ]
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def start(root: Path, workers: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "wfm_sim.cli", "collect", "--out", str(root), "--episodes", str(EPISODES)]
    command += ["--seed", "3", "--workers", str(workers)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_until_gone(group: int, seconds: float = 20.0) -> None:
    """Orphaned workers notice that their parent was killed and leave; nothing may stay behind."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("a worker outlived its parent")


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("collected")
    seen: list[tuple[int, int]] = []
    result = collect(root, EPISODES, CollectConfig(seed=3), 2, lambda done, total: seen.append((done, total)))
    assert (result.episodes, result.written) == (EPISODES, EPISODES)
    assert seen == [(done, EPISODES) for done in range(EPISODES + 1)]
    return root


def test_every_episode_is_complete_and_consistent(collected: Path) -> None:
    dataset = open_dataset(collected, split="train")
    assert len(dataset) == EPISODES
    for episode in dataset:
        extras = episode.extras
        assert episode.frames.shape == (31, 64, 64, 3)
        assert ((episode.actions >= ACTION_LOW - 1e-6) & (episode.actions <= ACTION_HIGH + 1e-6)).all()
        assert len(extras["success"]) == len(extras["progress"]) == len(extras["agent_pos"]) == 31
        assert extras["task"] in episode.instruction or extras["task"] == "place"
        assert extras["target_colour"] in episode.instruction
        blocks = len(extras["object_names"])
        assert np.array(extras["objects"]).shape == (31, blocks, 3)
        assert np.array(extras["object_positions"]).shape == (31, blocks, 3)
        # The commanded pose is the start pose with the recorded actions applied, clipped to the workspace.
        commanded = np.array(extras["agent_pos"])
        bounds = Workspace((0.16, -0.15, 0.022, -0.3, -0.3, -0.8), (0.42, 0.15, 0.16, 0.3, 0.3, 0.8))
        for t in range(30):
            np.testing.assert_allclose(
                apply_action(commanded[t], episode.actions[t], bounds), commanded[t + 1], atol=1e-4
            )
        # And the arm is where it was told to be, to a centimetre or so where it is free to move.
        assert episode.states is not None
        off = np.linalg.norm(episode.states[:, :3] - commanded[:, :3], axis=1)
        assert np.median(off) < 0.01


def test_objects_are_where_the_record_says(collected: Path) -> None:
    """Around a recorded centroid the frame shows the recorded colour."""
    looked_at = 0
    for episode in open_dataset(collected):
        for rgb, (x, y, area) in zip(episode.extras["object_rgb"], episode.extras["objects"][0], strict=True):
            if area > 40:
                pixel = episode.frames[0, round(y), round(x)].astype(float)
                cosine = pixel @ np.array(rgb) / np.linalg.norm(pixel) / np.linalg.norm(rgb)
                assert cosine > 0.9, (episode.id, pixel, rgb)
                looked_at += 1
    assert looked_at >= EPISODES


def test_number_of_workers_and_order_do_not_matter(collected: Path, tmp_path: Path) -> None:
    collect(tmp_path, 3, CollectConfig(seed=3), workers=1)
    (tmp_path / "annotation/train/000001.json").unlink()
    collect(tmp_path, EPISODES, CollectConfig(seed=3), workers=1)
    assert digest(tmp_path) == digest(collected)


def test_splits_and_seeds_are_different_episodes() -> None:
    env = make_env(CollectConfig())
    seeds = set()
    for config in (CollectConfig(seed=3), CollectConfig(seed=4), CollectConfig(seed=3, split="val")):
        seeds.add(collect_episode(env, CollectConfig(config.seed, config.split, steps=1), 0).extras["seed"])
    assert len(seeds) == 3


def test_killed_at_ten_random_points_it_resumes_to_the_same_set(collected: Path, tmp_path: Path) -> None:
    chance = random.Random(0)
    kills = 0
    for turn in range(10):
        before = len(list(tmp_path.glob("annotation/train/0*.json")))
        process = start(tmp_path, workers=1 + turn % 2)
        if turn % 3:  # at work: some moment around the next episode that gets finished
            while len(list(tmp_path.glob("annotation/train/0*.json"))) <= before and process.poll() is None:
                time.sleep(0.005)
            time.sleep(chance.uniform(0.0, 0.15))
        else:  # starting up
            time.sleep(chance.uniform(0.2, 1.2))
        kills += process.poll() is None
        process.kill()
        process.communicate()
        wait_until_gone(process.pid)
        # What is there so far is right: nothing half-written under a final name, no JSON without its video.
        so_far = {name: value for name, value in digest(tmp_path).items() if ".partial-" not in name}
        assert so_far.items() <= digest(collected).items()
        for path in tmp_path.glob("annotation/train/0*.json"):
            assert f"videos/train/{path.stem}/rgb.mp4" in so_far
    assert kills >= 5
    process = start(tmp_path, workers=2)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"{EPISODES} train episodes" in out
    assert digest(tmp_path) == digest(collected)  # also: no temporary files left


def test_ctrl_c_stops_at_once_and_resumes(collected: Path, tmp_path: Path) -> None:
    process = start(tmp_path, workers=2)
    time.sleep(2.0)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, err = process.communicate(timeout=30)
    if process.returncode != 0:  # a fast machine may have finished
        assert process.returncode == 130
        assert err.strip().endswith("stopped; run the same command to resume")
        assert "Traceback" not in err
    wait_until_gone(process.pid)
    assert not list(tmp_path.rglob(".partial-*"))
    process = start(tmp_path, workers=1)
    process.communicate(timeout=120)
    assert digest(tmp_path) == digest(collected)


def test_a_folder_of_another_configuration_is_refused(collected: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="collected with seed 3, not 4"):
        collect(collected, EPISODES, CollectConfig(seed=4))
    with pytest.raises(UserError, match="collected with image_size 64, not 96"):
        collect(collected, EPISODES, CollectConfig(seed=3, image_size=96))
    before = digest(collected)
    result = collect(collected, 2, CollectConfig(seed=3))
    assert (result.episodes, result.written) == (EPISODES, 0)
    assert digest(collected) == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is not a folder"):
        collect(tmp_path / "file", 1)


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    process = start(tmp_path, workers=1)
    try:
        deadline = time.monotonic() + 20
        while not (tmp_path / "collect-train.json").is_file() and time.monotonic() < deadline:
            time.sleep(0.02)
        with pytest.raises(UserError, match="another run is collecting train"):
            collect(tmp_path, 1, CollectConfig(seed=3))
    finally:
        process.kill()
        process.communicate()
        wait_until_gone(process.pid)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds its worker through Linux's /proc")
def test_a_dead_worker_is_told_in_one_sentence(tmp_path: Path) -> None:
    process = start(tmp_path, workers=1)
    try:
        victim = find_worker(process.pid)
        # Never signal 0 or a stranger: 0 would mean this test's own process group.
        assert victim is not None and victim > 1 and os.getpgid(victim) == process.pid
        os.kill(victim, signal.SIGKILL)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 2
    assert "error: a worker died (exit code -9); run the same command to resume" in err


def find_worker(parent: int, seconds: float = 20.0) -> int | None:
    """The process id of a worker that `parent` has started."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        time.sleep(0.02)
    return None


def test_the_mix_follows_its_shares() -> None:
    kinds: Counter[str] = Counter()
    for index in range(600):
        policy, play = _choose_policy(np.random.default_rng([0, index]), index)
        name = (policy or play).name
        flawed = any(name.endswith(flaw) for flaw in FLAWS)
        kinds["flawed" if flawed else "noisy" if "noise" in name else name] += 1
    assert set(kinds) == set(SHARES)
    for kind, share in SHARES.items():
        assert kinds[kind] / 600 == pytest.approx(share, abs=0.06), kind


def test_play_seeks_contact_and_stays_in_bounds() -> None:
    """Played on bare kinematics, the gripper comes within touching distance of a block in nearly every episode."""
    touched = 0
    for seed in range(20):
        play, pose = Play(seed), np.array([0.27, 0.0, 0.13, 0.0, 0.0, 0.0, 1.0])
        blocks = np.array([[0.30, 0.05, 0.021], [0.26, -0.07, 0.021]])
        nearest = 1.0
        for _ in range(30):
            action = play.act(pose, blocks)
            assert action.dtype == np.float32
            assert ((action >= ACTION_LOW) & (action <= ACTION_HIGH)).all()
            pose = apply_action(pose, action)
            nearest = min(nearest, float(np.linalg.norm(blocks - pose[:3], axis=1).min()))
        touched += nearest < 0.035
    assert touched >= 18
