"""The physics data set survives being written, and says in one sentence what is wrong with a broken one."""

import json
from pathlib import Path

import numpy as np
import pytest

from wfm_sim.data.files import read_json
from wfm_sim.data.physics import FORMAT, VERSION, Poses, View, open_physics
from wfm_sim.data.physics_writer import write_physics_episode
from wfm_sim.errors import UserError
from wfm_sim.video_metrics import psnr

T, H, W = 7, 48, 64


@pytest.fixture
def frames() -> np.ndarray:
    """uint8 [2, T, H, W, 3]: two views of a red and a blue block that move over a speckled floor."""
    rng = np.random.default_rng(0)
    out = np.empty((2, T, H, W, 3), np.uint8)
    out[:] = 120 + rng.integers(0, 20, (H // 4, W // 4, 1)).repeat(4, 0).repeat(4, 1)
    for view in range(2):
        for t in range(T):
            out[view, t, 10 + view : 20 + view, 5 + 3 * t : 15 + 3 * t] = (200, 30, 30)
            out[view, t, 25 : 35 + view, 40 - 2 * t : 52 - 2 * t] = (30, 60, 220)
    return out


def masks_of(frames: np.ndarray) -> np.ndarray:
    return (frames[..., 0] > 180).astype(np.uint8) + 2 * (frames[..., 2] > 180).astype(np.uint8)


@pytest.fixture
def poses(rng: np.random.Generator) -> Poses:
    return Poses(
        np.arange(T) / 24,
        rng.normal(size=(T, 2, 3)),
        rng.normal(size=(T, 2, 4)),
        rng.normal(size=(T, 2, 3)),
        rng.normal(size=(T, 2, 3)),
        ("red", "blue"),
    )


@pytest.fixture
def root(frames: np.ndarray, poses: Poses, tmp_path: Path) -> Path:
    manifest = {"format": FORMAT, "version": VERSION, "complete": True, "settings": {"scenes": ["blocks", "none"]}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    write_physics_episode(
        tmp_path,
        "blocks",
        3,
        seed=17,
        fps=24,
        size=(H, W),
        cameras=[View(f"cam{i}", np.eye(3) * (50 + i), np.eye(4)) for i in range(2)],
        scene={"name": "blocks", "gravity": [0, 0, -9.81]},
        motion=poses,
        render=lambda view, t: (frames[view, t], masks_of(frames)[view, t]),
    )
    return tmp_path


def test_what_is_written_is_read(root: Path, frames: np.ndarray, poses: Poses) -> None:
    data = open_physics(root)
    assert data.scenes == ("blocks",) and data.complete
    (episode,) = data.episodes("blocks")
    assert (episode.scene, episode.index, episode.seed, episode.fps) == ("blocks", 3, 17, 24.0)
    assert (episode.size, episode.names, episode.views, len(episode)) == ((H, W), ("red", "blue"), 2, T)
    assert episode.about["scene"]["gravity"] == [0, 0, -9.81]
    for view in range(2):
        assert psnr(frames[view], episode.frames(view)).min() > 40
        assert np.array_equal(episode.masks(view), masks_of(frames)[view])
        assert np.array_equal(episode.frames(view, 3), episode.frames(view)[:3])
        assert np.array_equal(episode.masks(view, 3), episode.masks(view)[:3])
    camera = episode.camera(1)
    assert camera.name == "cam1" and camera.intrinsics[0, 0] == 51 and camera.world_to_camera.shape == (4, 4)
    back = episode.poses()
    for name in ("times", "positions", "quaternions", "linear", "angular"):
        assert np.array_equal(getattr(back, name), getattr(poses, name)), name
    assert back.nodes is None and back.names == ("red", "blue")
    assert data.episode("blocks", 3).path == episode.path


def test_an_episode_that_fails_leaves_nothing(root: Path, frames: np.ndarray, poses: Poses) -> None:
    def render(view: int, t: int) -> tuple[np.ndarray, np.ndarray]:
        if view == 1:
            raise RuntimeError("the driver died")
        return frames[view, t], masks_of(frames)[view, t]

    options = {"seed": 0, "fps": 24, "size": (H, W), "cameras": [View("c", np.eye(3), np.eye(4))] * 2, "scene": {}}
    with pytest.raises(RuntimeError):
        write_physics_episode(root, "blocks", 4, motion=poses, render=render, **options)
    assert [p.name for p in (root / "blocks").iterdir()] == ["00003"]


def test_questions_that_have_no_answer(root: Path) -> None:
    data = open_physics(root)
    episode = data.episode("blocks", 3)
    with pytest.raises(UserError, match=r"unknown scene in .* 'block'; did you mean 'blocks'"):
        data.episodes("block")
    with pytest.raises(UserError, match="no episode 4 of blocks"):
        data.episode("blocks", 4)
    for call in (episode.frames, episode.masks, episode.camera):
        with pytest.raises(UserError, match="no view 2, it has views 0 to 1"):
            call(2)
    with pytest.raises(UserError, match="33 frames asked for, it has 7"):
        episode.frames(0, 33)


@pytest.mark.parametrize("name", ["view0.mp4", "masks.npz", "poses.npz"])
def test_missing_and_broken_files_are_told(root: Path, name: str) -> None:
    episode = open_physics(root).episode("blocks", 3)
    read = {"view0.mp4": lambda: episode.frames(0), "masks.npz": lambda: episode.masks(0), "poses.npz": episode.poses}
    path = episode.path / name
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"nothing of the kind"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=name):
            read[name]()
    path.unlink()
    with pytest.raises(UserError, match=f"{name}: no such"):
        read[name]()


def test_files_that_do_not_fit_the_episode_are_told(root: Path, frames: np.ndarray) -> None:
    episode = open_physics(root).episode("blocks", 3)
    np.savez(episode.path / "masks.npz", view0=masks_of(frames)[0, :4], view1=masks_of(frames)[1] + 7)
    with pytest.raises(UserError, match=r"masks.npz: uint8 \[4, 48, 64\], episode.json promises uint8 \[7, 48, 64\]"):
        episode.masks(0)
    with pytest.raises(UserError, match="body 9 in a mask, but the episode names 2"):
        episode.masks(1)
    np.savez(episode.path / "masks.npz", view1=masks_of(frames)[1])
    with pytest.raises(UserError, match="view0"):
        episode.masks(0)
    about = read_json(episode.path / "episode.json")
    (episode.path / "episode.json").write_text(json.dumps(about | {"size": [24, 64], "frames": 5}))
    shrunk = open_physics(root).episode("blocks", 3)
    with pytest.raises(UserError, match=r"view0.mp4: uint8 \[5, 48, 64, 3\], episode.json promises \[5, 24, 64, 3\]"):
        shrunk.frames(0)
    with pytest.raises(UserError, match=r"poses.npz: times is float64 \[7\], episode.json promises \[5\]"):
        shrunk.poses()


def test_folders_that_are_no_data_set_are_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        open_physics(tmp_path / "elsewhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no manifest.json.*wfm-sim physics generate"):
        open_physics(tmp_path / "empty")
    (tmp_path / "empty/manifest.json").write_text('{"format": "something"}')
    with pytest.raises(UserError, match=f"'something', expected '{FORMAT}'"):
        open_physics(tmp_path / "empty")
    (tmp_path / "empty/manifest.json").write_text(json.dumps({"format": FORMAT, "version": 9}))
    with pytest.raises(UserError, match="version 9, this program reads 1"):
        open_physics(tmp_path / "empty")


def test_too_many_bodies_for_a_mask(tmp_path: Path, poses: Poses) -> None:
    many = Poses(poses.times, *[np.zeros((T, 300, 3))] * 4, tuple(map(str, range(300))))
    with pytest.raises(UserError, match="300 dynamic bodies, masks can hold 255"):
        write_physics_episode(
            tmp_path,
            "crowd",
            0,
            seed=0,
            fps=24,
            size=(8, 8),
            cameras=[],
            scene={},
            motion=many,
            render=lambda view, t: (np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)),
        )
