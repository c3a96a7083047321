"""Recordings of scenes and camera paths: what is in them, read back; alignment for the eye."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from wfm_sim.camera import Intrinsics, move
from wfm_sim.errors import UserError
from wfm_sim.evals.consistency.gaussians import seed_gaussians
from wfm_sim.evals.consistency.recording import display_alignment, record_camera_path, record_scene
from wfm_sim.evals.consistency.sfm import Reconstruction
from wfm_sim.evals.consistency.similarity import Similarity

CAMERA = Intrinsics.of_fov(60, (24, 32))
T = 6


def straight(rng: np.random.Generator) -> np.ndarray:
    """A straight walk, on which Umeyama's rotation is arbitrary."""
    poses = np.stack([move(np.eye(4), [0.1 * t, 0, 0, 0, 0.02 * t, 0]) for t in range(T)])
    return move(np.eye(4), [1.0, 2.0, 3.0, 0.3, -0.7, 0.2]) @ poses


def made_of(commanded: np.ndarray, rng: np.random.Generator, without: int = 2) -> tuple[Reconstruction, Similarity]:
    """What SfM would make of it: another world, another scale, one frame not registered; and the way back."""
    back = Similarity(2.5, Rotation.random(rng=rng).as_matrix(), rng.normal(size=3))
    there = Similarity(1 / back.scale, back.rotation.T, -back.rotation.T @ back.translation / back.scale)
    index = np.array([t for t in range(len(commanded)) if t != without])
    points = rng.normal([0, 0, 3], 0.5, (60, 3)) @ commanded[0, :3, :3].T + commanded[0, :3, 3]
    colours = rng.integers(0, 256, (60, 3), dtype=np.uint8)
    return Reconstruction(there.poses(commanded[index]), index, there(points), colours, CAMERA), back


def frames(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (T, CAMERA.height, CAMERA.width, 3), dtype=np.uint8)


def contents(path: Path) -> str:
    """The whole recording as text."""
    command = [str(Path(sys.executable).parent / "rerun"), "rrd", "print", "-vvv", str(path)]
    listing = subprocess.run(command, capture_output=True, text=True)
    assert listing.returncode == 0, listing.stderr
    return listing.stdout


def test_a_scene_holds_points_splats_both_paths_and_errors(tmp_path: Path, rng: np.random.Generator) -> None:
    commanded = straight(rng)
    found, _ = made_of(commanded, rng)
    gaussians = seed_gaussians(found.points, found.colours, 100, unit=1.0)
    path = tmp_path / "out" / "scene.rrd"
    sampson = np.array([np.nan, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert record_scene(path, frames(rng), found, commanded, gaussians, errors={"sampson": sampson}) == path
    assert [p.name for p in path.parent.iterdir()] == ["scene.rrd"]
    text = contents(path)
    for entity in (
        "/world/points", "/world/splats", "/world/recovered/path", "/world/commanded/path", "/world/camera", "/frame",
        "/error/rotation", "/error/position", "/error/sampson", "/about",
    ):  # fmt: skip
        assert entity in text, entity
    for wanted in ("GaussianSplats3D", "Pinhole", "frame_index", "timestamp", "5 of 6 frames registered"):
        assert wanted in text, wanted
    assert "/world/commanded/cameras/0002" in text
    assert "/world/recovered/cameras/0002" not in text  # not registered
    assert "/world/recovered/cameras/0005" in text


def test_a_scene_without_a_command_has_no_errors(tmp_path: Path, rng: np.random.Generator) -> None:
    found, _ = made_of(straight(rng), rng)
    text = contents(record_scene(tmp_path / "a.rrd", frames(rng), found))
    assert "/world/recovered/path" in text
    assert "/world/commanded" not in text and "/error" not in text and "/world/splats" not in text


def test_a_command_that_stays_where_it_is_is_not_compared(tmp_path: Path, rng: np.random.Generator) -> None:
    found, _ = made_of(straight(rng), rng)
    text = contents(record_scene(tmp_path / "a.rrd", frames(rng), found, np.stack([np.eye(4)] * T)))
    assert "not comparable with the commanded path" in text and "/error" not in text


def test_a_walk_shows_each_frame_in_its_pinhole(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "walk.rrd"
    record_camera_path(path, frames(rng), straight(rng), CAMERA, errors={"trust": np.ones(T)}, about="a walk")
    text = contents(path)
    for wanted in ("/world/commanded/path", "/world/commanded/cameras/0005", "/error/trust", "a walk", "Image"):
        assert wanted in text, wanted
    assert "recovered" not in text and "/world/points" not in text


def test_the_display_is_aligned_on_a_straight_path_too(rng: np.random.Generator) -> None:
    commanded = straight(rng)
    found, back = made_of(commanded, rng)
    aligned = display_alignment(found.poses, commanded[found.frame_index])
    assert aligned is not None
    assert aligned.scale == pytest.approx(back.scale)
    np.testing.assert_allclose(aligned.rotation, back.rotation, atol=1e-9)
    np.testing.assert_allclose(aligned.poses(found.poses), commanded[found.frame_index], atol=1e-9)
    assert display_alignment(found.poses, np.stack([np.eye(4)] * len(found.poses))) is None
    assert display_alignment(np.stack([np.eye(4)] * 3), commanded[:3]) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": np.zeros((0, 24, 32, 3), np.uint8)}, "expected uint8"),
        ({"poses": np.stack([np.eye(4)] * 5)}, "5 camera poses for 6 frames"),
        ({"poses": np.zeros((T, 4, 4))}, "not orthonormal"),
        ({"errors": {"trust": np.ones(5)}}, r"'trust' is \[5\], expected a number per frame, \[6\]"),
        ({"fps": 0}, "frames per second"),
    ],
)
def test_wrong_input_leaves_no_file(tmp_path: Path, rng: np.random.Generator, change: dict, message: str) -> None:
    arguments = {"frames": frames(rng), "poses": straight(rng), "intrinsics": CAMERA, **change}
    with pytest.raises(UserError, match=message):
        record_camera_path(tmp_path / "walk.rrd", **arguments)
    assert not list(tmp_path.iterdir())


def test_a_scene_of_other_frames_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    found, _ = made_of(straight(rng), rng)
    with pytest.raises(UserError, match="the clip has 3"):
        record_scene(tmp_path / "a.rrd", frames(rng)[:3], found)
    with pytest.raises(UserError, match="3 commanded poses for 6 frames"):
        record_scene(tmp_path / "a.rrd", frames(rng), found, straight(rng)[:3])
    assert not list(tmp_path.iterdir())
