"""`wfm-sim eval camera`: baselines that are exact where they should be, loops that close, runs that resume."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wfm_sim.camera import Intrinsics, move
from wfm_sim.data.camera import open_camera_dataset
from wfm_sim.data.camera_clip import CameraClip
from wfm_sim.data.camera_writer import write_camera_scene
from wfm_sim.errors import UserError
from wfm_sim.evals.camera_entrants import HOMOGRAPHY, MODEL, MODEL_DEPTH, REPEAT, TRUTH, Walks, warped
from wfm_sim.evals.camera_walks import format_table, run, there_and_back
from wfm_sim.models.camera_world import CameraWorldModel
from wfm_sim.models.depth import DepthConfig
from wfm_sim.models.presets import nano_rooms
from wfm_sim.video_metrics import psnr

SIZE, T = (48, 64), 6
K = Intrinsics.of_fov(60, SIZE)


def _wall(pose: np.ndarray, seed: int = 0, metres: float = 2.0) -> np.ndarray:
    """A smoothly patterned wall at z = 2, ray-traced."""
    v, u = np.meshgrid(np.arange(SIZE[0]) + 0.5, np.arange(SIZE[1]) + 0.5, indexing="ij")
    rays = np.stack([(u - K.cx) / K.fx, (v - K.cy) / K.fy, np.ones(SIZE)], -1) @ pose[:3, :3].T
    p = pose[:3, 3] + ((metres - pose[2, 3]) / rays[..., 2])[..., None] * rays
    waves = np.random.default_rng(seed).uniform(2, 5, (3, 2))
    return np.stack([127 + 100 * np.sin(p[..., :2] @ w + w[0]) for w in waves], -1).round().astype(np.uint8)


def _path(motion: tuple[float, ...], frames: int = T) -> np.ndarray:
    poses = [np.eye(4)]
    for _ in range(frames - 1):
        poses.append(move(poses[-1], motion))
    return np.stack(poses)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    poses = _path((0.04, 0.01, 0.02, 0, 0.01, 0))
    for i in range(2):
        frames = np.stack([_wall(p, i) for p in poses])
        depth = np.full((T, *SIZE), 2.0, np.float32)
        write_camera_scene(root / f"s{i}", CameraClip(frames, poses, K, depth, metric=True, fps=10.0, id=f"s{i}"))
    return root


@pytest.fixture(scope="module")
def model() -> CameraWorldModel:
    torch.manual_seed(0)
    cfg = nano_rooms()
    assert cfg.camera is not None
    camera = replace(cfg.camera, points=2 * SIZE[0] * SIZE[1], depth=DepthConfig((4, 8, 8, 8)))
    dit = replace(cfg.dit, model_channels=48, num_blocks=1, num_heads=2)
    return CameraWorldModel(replace(cfg, frame_size=SIZE, dit=dit, window=2, camera=camera)).eval()


@pytest.mark.parametrize("motion", [(0.05, 0, 0, 0, 0, 0), (0, 0.02, 0.05, 0.02, -0.03, 0.02)])
def test_the_homography_is_exact_for_a_wall(motion: tuple[float, ...]) -> None:
    poses = _path(motion)
    guess = warped(_wall(poses[0]), poses, K, plane=2.0)
    truth = np.stack([_wall(p) for p in poses])
    inner = slice(8, -8)
    ours = psnr(truth[:, inner, 12:-12], guess[:, inner, 12:-12])
    assert ours[1:].min() > 33  # what is left is the interpolation
    wrong = psnr(truth[:, inner, 12:-12], warped(_wall(poses[0]), poses, K, plane=4.0)[:, inner, 12:-12])
    assert (ours[2:] > wrong[2:] + 3).all()


def test_entrants(data: Path, model: CameraWorldModel) -> None:
    clips = open_camera_dataset(data)
    made = {e: Walks(clips, e, T, 2, model).load(1) for e in (TRUTH, REPEAT, HOMOGRAPHY, MODEL, MODEL_DEPTH)}
    first = clips[1].frames[0]
    for clip in made.values():
        assert clip.frames.shape == (T, *SIZE, 3) and np.array_equal(clip.frames[0], first)
        assert np.allclose(clip.commanded, clips[1].poses)
    assert np.array_equal(made[TRUTH].frames, clips[1].frames)
    assert not np.array_equal(made[MODEL].frames, made[MODEL_DEPTH].frames)
    assert np.array_equal(Walks(clips, MODEL, T, 2, model).load(1).frames, made[MODEL].frames)
    with pytest.raises(UserError, match="walks of 99"):
        Walks(clips, TRUTH, 99, 2).load(0)


def test_the_untrained_model_told_the_depth_shows_what_its_memory_knows(data: Path, model: CameraWorldModel) -> None:
    clip = open_camera_dataset(data)[0]
    told = Walks(open_camera_dataset(data), MODEL_DEPTH, T, 1, model).walk(clip, 0)
    assert np.isfinite(psnr(clip.frames, told)).all()


@pytest.mark.parametrize(("frames", "steps"), [(11, 20), (33, 200), (5, 6), (101, 200)])
def test_loops_close_and_never_jump(frames: int, steps: int) -> None:
    poses = _path((0.05, 0, 0, 0, 0.02, 0), frames)
    path = there_and_back(poses, steps)
    assert len(path) == steps + 1 and np.array_equal(path[0], path[-1])
    hops = np.linalg.norm(np.diff(path[:, :3, 3], axis=0), axis=1)
    assert np.allclose(hops, 0.05)
    if frames > steps // 2:  # one turn: it goes as far as it can
        assert np.array_equal(path[steps // 2], poses[steps // 2])


@pytest.mark.parametrize("steps", [0, 1, 7])
def test_odd_loops_are_refused(steps: int) -> None:
    with pytest.raises(UserError, match="even number of steps"):
        there_and_back(_path((0, 0, 0.1, 0, 0, 0)), steps)


def test_a_run_and_the_same_again(data: Path, model: CameraWorldModel, tmp_path: Path) -> None:
    out = tmp_path / "run"
    summary = run(model, data, out, scenes=2, frames=T, loops=1, loop_steps=8, recordings=0)
    assert set(summary["entrants"]) == {TRUTH, MODEL, MODEL_DEPTH, HOMOGRAPHY, REPEAT}
    assert summary["entrants"][TRUTH]["metrics"]["frame_psnr"]["value"] == 100
    assert summary["entrants"][HOMOGRAPHY]["metrics"]["frame_psnr"]["value"] > 25
    assert summary["entrants"][REPEAT]["clips"]["succeeded"] == 0
    assert "FID" in format_table(summary) and "unscored" in format_table(summary)
    assert summary["loop_psnr"]["n"] == 1 and (out / "pictures" / "walks.png").is_file()
    before = {p: p.read_bytes() for p in out.rglob("*.jsonl")}
    again = run(model, data, out, scenes=2, frames=T, loops=1, loop_steps=8, recordings=0)
    assert {p: p.read_bytes() for p in out.rglob("*.jsonl")} == before
    assert json.dumps(again["entrants"]) == json.dumps(summary["entrants"])
    with pytest.raises(UserError, match="2 scenes, but 5"):
        run(model, data, tmp_path / "other", scenes=5)
