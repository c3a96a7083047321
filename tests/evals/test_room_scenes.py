"""Sets of rooms: the same whatever the number of workers, completed when run again, in a layout that reads back."""

import shutil

import numpy as np
import pytest

from wfm_sim.cli import main
from wfm_sim.data.camera import open_camera_dataset
from wfm_sim.errors import UserError
from wfm_sim.evals.room_scenes import RoomSettings, generate, render_scene

SMALL = RoomSettings(seed=3, frames=4, size=(24, 32), motion="mixed")


def content(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("rooms")
    result = generate(root, 2, SMALL)
    assert (result.scenes, result.written) == (2, 2)
    return root


def test_the_number_of_workers_and_a_stop_change_nothing(small, tmp_path):
    generate(tmp_path, 2, SMALL, workers=2)
    assert content(tmp_path) == content(small)
    shutil.rmtree(tmp_path / "room_000000")
    (tmp_path / ".partial-9-room_000000" / "images_4").mkdir(parents=True)  # of a killed run
    seen = []
    result = generate(tmp_path, 2, SMALL, progress=lambda done, total: seen.append((done, total)))
    assert (result.scenes, result.written) == (2, 1)
    assert seen == [(1, 2), (2, 2)]
    assert content(tmp_path) == content(small)


def test_it_reads_back(small):
    clips = open_camera_dataset(small)
    assert clips.ids == ("room_000000", "room_000001")
    clip, drawn = clips[1], render_scene(SMALL, 1)
    assert clip.metric
    assert np.array_equal(clip.frames, drawn.frames)
    np.testing.assert_allclose(clip.poses, drawn.poses, atol=1e-12)
    assert clip.intrinsics == drawn.intrinsics
    assert np.abs(clip.depth - drawn.depth).max() < 6e-4
    assert clip.extras["room"] == 3_000_001


def test_other_settings_or_files_are_refused(small, tmp_path):
    with pytest.raises(UserError, match="size"):
        generate(small, 2, RoomSettings(seed=3, frames=4, size=(32, 32), motion="mixed"))
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match=r"rooms\.json"):
        generate(tmp_path, 1, SMALL)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--scenes", "0"],
        ["--size", "4", "4"],
        ["--frames", "0"],
        ["--motion", "fly"],
        ["--format", "gif"],
        ["--fps", "0"],
        ["--fov", "200"],
        ["--seed", "-1"],
        ["--supersample", "9"],
    ],
)
def test_bad_numbers(arguments, tmp_path, capsys):
    assert main(["rooms", "generate", "--out", str(tmp_path / "new"), "--workers", "1", *arguments]) == 2
    assert capsys.readouterr().err.startswith("error: ")  # and no bar before it
    assert not (tmp_path / "new").exists()
