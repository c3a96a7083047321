"""View synthesis of a small scene with exact cameras, of warped copies of it, and of wrong input."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from wfm_sim.camera import Intrinsics, move
from wfm_sim.errors import UserError
from wfm_sim.evals.consistency import lpips_score, synthesis
from wfm_sim.evals.consistency.corruptions import rubber_sheet
from wfm_sim.evals.consistency.synthesis import synthesise

pytest.importorskip("numba")

SIZE = (48, 64)
CAMERA = Intrinsics.of_fov(55, SIZE)
FRAMES = 9
# a wall 3 m away and a board before a part of it: (depth, left, right, top, bottom)
SHEETS = ((3.0, -9.0, 9.0, -9.0, 9.0), (1.8, -0.3, 0.5, -0.4, 0.35))


def scene(frames: int = FRAMES) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Frames uint8 [T, 48, 64, 3], poses, points [P, 3] on the two sheets, and their colours."""
    rng = np.random.default_rng(0)
    textures = [ndimage.gaussian_filter(rng.random((512, 512, 3)), (2, 2, 0), mode="wrap") for _ in SHEETS]
    textures = [np.clip(0.5 + 4 * (t - t.mean()), 0, 1) for t in textures]
    poses = [np.eye(4)]
    for t in range(frames - 1):
        poses.append(move(poses[-1], [0.05, 0.01 * np.sin(t), 0.01, 0, -0.012, 0]))
    pictures = np.stack([_picture(pose, textures) for pose in poses])
    points, colours = [], []
    for (depth, *box), texture in zip(SHEETS, textures, strict=True):
        left, right, top, bottom = np.clip(box, -2.2, 2.2)
        at = rng.uniform([left, top], [right, bottom], (700, 2))
        points.append(np.column_stack([at, np.full(len(at), depth)]))
        colours.append(np.round(255 * _sample(texture, at)).astype(np.uint8))
    return pictures, np.stack(poses), np.concatenate(points), np.concatenate(colours)


def _picture(pose: np.ndarray, textures: list[np.ndarray], k: int = 2) -> np.ndarray:
    v, u = (np.mgrid[0 : SIZE[0] * k, 0 : SIZE[1] * k] + 0.5) / k
    rays = np.stack([(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones_like(u)], -1) @ pose[:3, :3].T
    picture = np.zeros((*u.shape, 3))
    for (depth, left, right, top, bottom), texture in zip(SHEETS, textures, strict=True):  # far to near
        at = (pose[:3, 3] + (depth - pose[2, 3]) / rays[..., 2:] * rays)[..., :2]
        hit = (at[..., 0] > left) & (at[..., 0] < right) & (at[..., 1] > top) & (at[..., 1] < bottom)
        picture[hit] = _sample(texture, at[hit])
    return np.round(255 * picture.reshape(SIZE[0], k, SIZE[1], k, 3).mean((1, 3))).astype(np.uint8)


def _sample(texture: np.ndarray, at: np.ndarray) -> np.ndarray:
    rows = (at[:, ::-1] * 20).T
    return np.stack([ndimage.map_coordinates(texture[..., c], rows, order=1, mode="grid-wrap") for c in range(3)], -1)


@pytest.fixture(scope="module")
def clip() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return scene()


@pytest.fixture(autouse=True)
def fewer_gaussians(monkeypatch: pytest.MonkeyPatch) -> None:
    """48 x 64 pixels need no more."""
    monkeypatch.setattr(synthesis, "COUNT", 2500)


def test_held_out_views_are_predicted_and_the_result_repeats(clip: tuple[np.ndarray, ...]) -> None:
    found = synthesise(*clip, CAMERA, every=4, iterations=120)
    assert [view.frame for view in found.per_view] == [0, 4, 8]
    assert found.backend == "numba" and found.size == SIZE and found.seconds > 0
    assert found.per_view[1].psnr > 27 and found.per_view[1].ssim > 0.9  # seen from both sides
    assert found.psnr == pytest.approx(np.mean([view.psnr for view in found.per_view]))
    assert found.rendered.shape == found.truth.shape == (3, *SIZE, 3)
    np.testing.assert_array_equal(found.truth, clip[0][::4])
    again = synthesise(*clip, CAMERA, every=4, iterations=120)
    np.testing.assert_array_equal(again.gaussians.table, found.gaussians.table)
    assert again.per_view == found.per_view
    other = synthesise(*clip, CAMERA, every=4, iterations=1, seed=1)
    assert not np.array_equal(other.gaussians.table, found.gaussians.table)


def test_what_is_not_rigid_scores_strictly_worse(clip: tuple[np.ndarray, ...]) -> None:
    frames, *rest = clip
    found = [synthesise(frames, *rest, CAMERA, iterations=80)]
    for pixels in (0.5, 1.0, 2.0):
        found.append(synthesise(rubber_sheet(frames, pixels), *rest, CAMERA, iterations=80))
    psnr, ssim = [f.psnr for f in found], [f.ssim for f in found]
    assert psnr == sorted(psnr, reverse=True) and ssim == sorted(ssim, reverse=True)
    assert psnr[0] > psnr[1] + 1


def test_scale_and_place_of_the_world_do_not_matter(clip: tuple[np.ndarray, ...]) -> None:
    frames, poses, points, colours = clip
    turn, scale = move(np.eye(4), [0.5, 2.0, -1.0, 0.7, -0.4, 0.2]), 40.0
    there = turn @ poses
    there[:, :3, 3] *= scale
    moved = scale * (points @ turn[:3, :3].T + turn[:3, 3])
    a = synthesise(frames, poses, points, colours, CAMERA, iterations=40)
    b = synthesise(frames, there, moved, colours, CAMERA, iterations=40)
    assert b.psnr == pytest.approx(a.psnr, abs=0.3)
    np.testing.assert_allclose(np.median(b.gaussians.scales), scale * np.median(a.gaussians.scales), rtol=0.05)


def test_larger_frames_are_scored_at_about_160_by_120(clip: tuple[np.ndarray, ...]) -> None:
    frames, *rest = clip
    large = np.repeat(np.repeat(frames, 4, 1), 4, 2)
    masks = np.zeros(large.shape[:3], bool)
    masks[:, 100:104, 100:104] = True
    found = synthesise(large, *rest, CAMERA.resized((192, 256)), iterations=3, masks=masks)
    assert found.size == (120, 160) == found.truth.shape[1:3]


def test_what_moves_is_neither_fitted_nor_counted(clip: tuple[np.ndarray, ...]) -> None:
    frames, *rest = clip
    spoilt, masks = frames.copy(), np.zeros(frames.shape[:3], bool)
    for t in range(len(frames)):
        masks[t, 10:30, 3 * t : 3 * t + 20] = True
    spoilt[masks] = (255, 0, 255)
    clean = synthesise(frames, *rest, CAMERA, iterations=60)
    masked = synthesise(spoilt, *rest, CAMERA, iterations=60, masks=masks)
    open_ = synthesise(spoilt, *rest, CAMERA, iterations=60)
    assert masked.psnr > clean.psnr - 1.5
    assert open_.psnr < clean.psnr - 5
    with pytest.raises(UserError, match="masked all over"):
        synthesise(frames, *rest, CAMERA, iterations=1, masks=np.ones(frames.shape[:3], bool))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": np.zeros((9, 48, 64, 3))}, "frames are float64"),
        ({"frames": np.zeros((2, 48, 64, 3), np.uint8), "poses": np.stack([np.eye(4)] * 2)}, "at least 3 frames"),
        ({"poses": np.stack([np.eye(4)] * 8)}, "8 poses for 9 frames"),
        ({"poses": np.stack([2 * np.eye(4)] * 9)}, "not orthonormal"),
        ({"points": np.full((1400, 3), np.nan)}, "finite numbers"),
        ({"points": -np.ones((1400, 3))}, "behind the cameras"),
        ({"points": np.ones((19, 3)), "colours": np.zeros((19, 3), np.uint8)}, "at least 20 points"),
        ({"colours": np.zeros((5, 3), np.uint8)}, r"colours are uint8 \[5, 3\]"),
        ({"intrinsics": CAMERA.resized((96, 128))}, "intrinsics are for 128x96 pixels, the frames have 64x48"),
        ({"every": 1}, "expected 2 or more"),
        ({"iterations": 0}, "expected at least 1"),
        ({"backend": "nunba"}, "did you mean 'numba'"),
        ({"masks": np.zeros((9, 4, 4), bool)}, "masks are bool"),
    ],
)
def test_wrong_input_is_one_sentence(clip: tuple[np.ndarray, ...], change: dict, message: str) -> None:
    names = ("frames", "poses", "points", "colours")
    arguments = {**dict(zip(names, clip, strict=True)), "intrinsics": CAMERA, "iterations": 1, **change}
    with pytest.raises(UserError, match=message):
        synthesise(**arguments)


def test_without_numba_the_extra_is_named(clip: tuple[np.ndarray, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    import wfm_sim.evals.consistency as package

    monkeypatch.delattr(package, "gaussians_numba", raising=False)
    monkeypatch.setitem(sys.modules, "wfm_sim.evals.consistency.gaussians_numba", None)
    with pytest.raises(UserError, match=r"wfm-sim\[consistency\]"):
        synthesise(*clip, CAMERA, backend="numba")


def test_gsplat_is_refused_where_it_cannot_run(clip: tuple[np.ndarray, ...]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(UserError, match="needs a CUDA device"):
        synthesise(*clip, CAMERA, backend="gsplat")


def test_lpips_is_unscored_with_a_reason_where_its_weights_are_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lpips_score.importlib.util, "find_spec", lambda name: None)
    assert lpips_score.load_lpips() == "the package lpips is absent (pip install lpips)"


def test_lpips_fetches_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(lpips_score.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    reason = lpips_score.load_lpips()
    assert isinstance(reason, str) and str(tmp_path) in reason and "alexnet" in reason
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / lpips_score.BACKBONE).touch()
    monkeypatch.setitem(sys.modules, "lpips", None)  # there, and cannot be imported
    reason = lpips_score.load_lpips()
    assert isinstance(reason, str) and "cannot be loaded" in reason
