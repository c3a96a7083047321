"""The probe that training asks about objects: on drawn latents, where the right answers are known."""

from pathlib import Path

import numpy as np
import pytest
import torch

from wfm_sim.training.frames import Frames
from wfm_sim.training.object_probe import ObjectProbe, cover, fit_probe, load_probe, object_errors

CHANNELS, GRID, CELL = 4, 10, 4.0
EPISODES, LENGTH = 60, 6


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[ObjectProbe, Frames, np.ndarray]:
    """Two objects of different looks that jump about on an uneven ground, and a probe fitted to them."""
    rng = np.random.default_rng(0)
    n = EPISODES * LENGTH
    objects = np.zeros((n, 2, 3), np.float32)
    objects[..., :2] = rng.uniform(8, 32, (n, 2, 2))
    objects[..., 2] = 60
    looks = np.array([[2, 0, 1, 0], [0, 2, 0, -1]], np.float32)
    shares = cover(objects, (GRID, GRID), CELL).numpy()  # [n, 2, h, w]
    ground = 0.2 * rng.standard_normal((n, CHANNELS, GRID, GRID)).astype(np.float32)
    latents = ground * (1 - shares.sum(1, keepdims=True).clip(max=1)) + np.einsum("nkhw,kc->nchw", shares, looks)
    side = int(GRID * CELL)
    frames = np.zeros((n, side, side, 3), np.uint8)
    folder = tmp_path_factory.mktemp("probe")
    data = Frames(frames, np.zeros((n, 7), np.float32), np.arange(0, n + 1, LENGTH), objects, folder)
    path = fit_probe(latents.astype(np.float16), data, folder / "probe.safetensors", steps=200, batch=24)
    return load_probe(path, CHANNELS), data, latents


def test_cover_is_a_disc_of_the_given_area() -> None:
    share = cover(np.array([[23.5, 11.5, 80.0], [np.nan, np.nan, 0.0]]), (GRID, GRID), CELL)
    assert share[0].sum() * CELL**2 == pytest.approx(80, rel=0.05)
    rows, columns = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    assert (share[0] * columns).sum() / share[0].sum() == pytest.approx(5.5, abs=0.01)
    assert (share[0] * rows).sum() / share[0].sum() == pytest.approx(2.5, abs=0.01)
    assert not share[1].any()


def test_errors_tell_whole_ghost_and_misplaced_objects_apart(world: tuple[ObjectProbe, Frames, np.ndarray]) -> None:
    probe, data, latents = world
    first = np.arange(0, len(latents), LENGTH)
    z = torch.from_numpy(latents)
    with torch.no_grad():
        queries = probe.queries(z[first], cover(data.objects[first, 0], (GRID, GRID), CELL))
        rows = torch.arange(len(first))
        missing, away = object_errors(probe, z[first + 1], z[first + 1], queries, rows)
        ghost, _ = object_errors(probe, 0.5 * (z[first + 1] + z[first + 2]), z[first + 1], queries, rows)
        lost, _ = object_errors(probe, z[first + 1] * 0, z[first + 1], queries, rows)
        kept, other = object_errors(probe, z[first + 2], z[first + 1], queries, rows)
    assert missing.max() < 1e-5
    assert away.max() < 0.02  # 0.01 is its floor
    assert 0.2 < ghost.mean() < lost.mean()
    assert kept.mean() < ghost.mean()
    jump = np.linalg.norm(np.diff(data.objects[..., 0, :2], axis=0)[first + 1], axis=-1) / CELL
    assert np.corrcoef(jump / (1 + jump / 2), other.numpy())[0, 1] > 0.8


def test_a_step_against_the_error_moves_the_object_home(world: tuple[ObjectProbe, Frames, np.ndarray]) -> None:
    probe, data, latents = world
    z = torch.from_numpy(latents)
    queries = probe.queries(z[:1], cover(data.objects[:1, 0], (GRID, GRID), CELL))
    guess = (0.5 * z[1:2] + 0.5 * z[2:3]).requires_grad_()
    rows = torch.zeros(1, dtype=torch.int64)
    before = sum(e.item() for e in object_errors(probe, guess, z[1:2], queries, rows))
    for _ in range(40):
        missing, away = object_errors(probe, guess, z[1:2], queries, rows)
        (slope,) = torch.autograd.grad((missing + away).sum(), guess)
        guess = (guess - 0.5 * slope).detach().requires_grad_()
    after = sum(e.item() for e in object_errors(probe, guess, z[1:2], queries, rows))
    assert after < 0.3 * before


def test_a_fitted_probe_is_used_again(world: tuple[ObjectProbe, Frames, np.ndarray]) -> None:
    _, data, latents = world
    path: Path = data.folder / "probe.safetensors"
    before = path.stat().st_mtime_ns
    fit_probe(latents.astype(np.float16), data, path)
    assert path.stat().st_mtime_ns == before
