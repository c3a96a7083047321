"""The rasterizer and its derivative against a dense one in torch; the loss; where Gaussians begin."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.evals.consistency.splat_reference import rasterization
from wfm_sim.camera import Intrinsics, inverse, move
from wfm_sim.errors import UserError
from wfm_sim.evals.consistency import gaussians_cuda
from wfm_sim.evals.consistency.gaussians import FitSettings, Gaussians, Views, scene_unit, seed_gaussians
from wfm_sim.evals.consistency.photometric import loss, loss_derivative

pytest.importorskip("numba")
from wfm_sim.evals.consistency import gaussians_numba

CAMERA = Intrinsics(30.0, 32.0, 19.0, 15.0, 30, 40)
BACKGROUND = np.array([0.2, 0.4, 0.6], np.float32)


def cloud(rng: np.random.Generator, count: int = 60) -> Gaussians:
    """Gaussians of all sorts: behind the camera, beside the picture, opaque, faint, flat, turned."""
    parts = [
        rng.uniform([-2.5, -2, -0.5], [2.5, 2, 4], (count, 3)),
        rng.normal(-1.6, 0.6, (count, 3)),
        rng.normal(size=(count, 4)),
        rng.normal(1, 2, (count, 1)),
        rng.random((count, 3)),
    ]
    return Gaussians(np.concatenate(parts, axis=1).astype(np.float32))


def reference(table: torch.Tensor, pose: np.ndarray) -> torch.Tensor:
    pictures, _, _ = rasterization(
        table[:, :3], table[:, 6:10], table[:, 3:6].exp(), table[:, 10].sigmoid(), table[:, 11:],
        torch.tensor(inverse(pose))[None], torch.tensor(CAMERA.matrix)[None], CAMERA.width, CAMERA.height, 0.01, 0.3,
        torch.tensor(BACKGROUND, dtype=torch.float64)[None],
    )  # fmt: skip
    return pictures[0]


def test_picture_and_derivative_are_those_of_a_dense_rasterizer(rng: np.random.Generator) -> None:
    scene, pose = cloud(rng), move(np.eye(4), [0.1, -0.05, -0.2, 0.05, -0.1, 0.08])
    image = gaussians_numba.render(scene, pose, CAMERA, BACKGROUND)
    by_image = rng.normal(size=image.shape).astype(np.float32)
    camera = gaussians_numba.Camera.of(pose, CAMERA)
    found = gaussians_numba.table_derivative(scene.table, camera, image, by_image)

    table = torch.tensor(scene.table, dtype=torch.float64, requires_grad=True)
    expected = reference(table, pose)
    (expected * torch.tensor(by_image)).sum().backward()
    assert table.grad is not None
    true = table.grad.numpy()
    assert image.std() > 0.1
    np.testing.assert_allclose(image, expected.detach().numpy(), atol=1e-5)
    seen = np.abs(true).sum(axis=1) > 0
    assert 20 < seen.sum() < len(scene)
    np.testing.assert_array_equal(np.abs(found[~seen]).max(), 0)
    scale = np.abs(true).max(axis=0)
    assert (scale > 0).all()  # every column takes part
    np.testing.assert_allclose(found / scale, true / scale, atol=2e-5)


def test_the_loss_has_the_derivative_that_torch_finds(rng: np.random.Generator) -> None:
    image, truth = rng.random((2, 24, 30, 3)).astype(np.float32)
    x = torch.tensor(image, requires_grad=True)
    expected = gaussians_cuda._loss(x, torch.tensor(truth), 0.2)
    expected.backward()
    assert loss(image, truth, 0.2) == pytest.approx(expected.item(), abs=1e-6)
    assert x.grad is not None
    np.testing.assert_allclose(loss_derivative(image, truth, 0.2), x.grad.numpy(), atol=1e-7)
    assert loss(truth, truth, 0.2) == pytest.approx(0, abs=1e-6)


def test_both_backends_fit_alike(rng: np.random.Generator) -> None:
    """The loop of the CUDA backend, with the dense rasterizer in gsplat's place: same start, steps and order."""
    truth = cloud(rng, 25)
    poses = np.stack([move(np.eye(4), [0.1 * t, 0, -0.2, 0, -0.03 * t, 0]) for t in range(3)])
    frames = np.stack([gaussians_numba.render(truth, pose, CAMERA, BACKGROUND) for pose in poses])
    masks = np.zeros(frames.shape[:3], bool)
    masks[:, :6] = True
    views = Views(frames, poses, CAMERA, masks)
    start = Gaussians(truth.table + rng.normal(0, 0.05, truth.table.shape).astype(np.float32))
    # a large epsilon: where a gradient is all but zero, Adam would else step by the sign of what rounding left of it
    settings = FitSettings(iterations=6, epsilon=1e-4)
    a = gaussians_numba.fit(start, views, settings)
    b = gaussians_cuda.fit(start, views, settings, rasterization=rasterization, device="cpu")
    moved = np.abs(a.table - start.table).max()
    assert moved > 0.005
    assert np.abs(a.table - b.table).max() < 0.05 * moved


def test_gaussians_begin_on_the_surface_between_points(rng: np.random.Generator) -> None:
    points = np.column_stack([rng.uniform(-1, 1, (300, 2)), np.full(300, 3.0)])
    colours = np.full((300, 3), (200, 100, 50), np.uint8)
    start = seed_gaussians(points, colours, 2000, unit=1.0, seed=1)
    assert len(start) == 2000
    np.testing.assert_array_equal(start.means[:300], points.astype(np.float32))
    np.testing.assert_allclose(start.means[:, 2], 3, atol=1e-6)
    np.testing.assert_allclose(start.colours, np.array([[200, 100, 50]]) / 255 * np.ones((2000, 1)), atol=1e-6)
    np.testing.assert_array_equal(seed_gaussians(points, colours, 2000, unit=1.0, seed=1).table, start.table)
    assert len(seed_gaussians(points, colours, 100, unit=1.0)) == 300  # never fewer than points
    with pytest.raises(UserError, match="at least 20 points, SfM found 19"):
        seed_gaussians(points[:19], colours[:19], 100, unit=1.0)


def test_coinciding_points_begin_with_a_size(rng: np.random.Generator) -> None:
    start = seed_gaussians(np.ones((30, 3)), np.zeros((30, 3), np.uint8), 50, unit=2.0)
    assert np.isfinite(start.table).all() and (start.scales > 0).all()


def test_a_similarity_moves_the_picture_with_the_camera(rng: np.random.Generator) -> None:
    scene, pose = cloud(rng), np.eye(4)
    turn = move(np.eye(4), [0.3, -1.0, 0.5, 0.4, -0.8, 1.1])
    scene.table[:, 2] = np.abs(scene.table[:, 2]) + 0.5
    moved = scene.moved(3.0, turn[:3, :3], turn[:3, 3])
    there = turn @ pose
    before = gaussians_numba.render(scene, pose, CAMERA, BACKGROUND)
    after = gaussians_numba.render(moved, there, CAMERA, BACKGROUND)
    np.testing.assert_allclose(after, before, atol=1e-4)


def test_units_come_from_what_is_before_the_cameras() -> None:
    poses = np.stack([np.eye(4)] * 2)
    assert scene_unit(np.array([[0, 0, 2.0], [1, 0, 4.0], [0, 1, 3.0]]), poses) == 3
    with pytest.raises(UserError, match="behind the cameras"):
        scene_unit(np.array([[0, 0, -2.0]]), poses)


def test_gaussians_of_a_wrong_shape_are_refused() -> None:
    with pytest.raises(UserError, match=r"\[N, 14\]"):
        Gaussians(np.zeros((5, 13), np.float32))


def test_without_cuda_there_is_a_reason() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert "CUDA" in gaussians_cuda.unavailable()
