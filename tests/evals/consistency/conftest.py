"""Clips of a ray-traced room that several tests share."""

from __future__ import annotations

import numpy as np
import pytest

from tests.evals.consistency.raytraced import pan, render, walk
from wfm_sim.camera import Intrinsics
from wfm_sim.evals.consistency.clips import NamedClip
from wfm_sim.evals.consistency.score import ConsistencySettings
from wfm_sim.evals.consistency.sfm import SfmSettings

SIZE = (120, 160)
FRAMES = 7


@pytest.fixture(scope="session")
def camera() -> Intrinsics:
    return Intrinsics.of_fov(50, SIZE)


@pytest.fixture(scope="session")
def clean(camera: Intrinsics) -> NamedClip:
    """Seven frames of a walk, with its cameras."""
    path = walk(FRAMES, length=0.9)
    return NamedClip("clean", render(path, camera), camera, path)


@pytest.fixture(scope="session")
def other(camera: Intrinsics) -> NamedClip:
    """A walk through another room."""
    path = walk(FRAMES, length=0.9)
    return NamedClip("other", render(path, camera, seed=5), camera, path)


@pytest.fixture(scope="session")
def panned(camera: Intrinsics) -> NamedClip:
    """A camera that turns on the spot."""
    path = pan(FRAMES)
    return NamedClip("pan", render(path, camera), camera, path)


@pytest.fixture(scope="session")
def quick() -> ConsistencySettings:
    """Without view synthesis, without the cross-check, and frames are not scaled up."""
    return ConsistencySettings(sfm=SfmSettings(max_features=600, min_size=1, incremental=False), synthesis=False)


@pytest.fixture
def moving_mask(clean: NamedClip) -> np.ndarray:
    """bool [T, H, W], nothing moves."""
    return np.zeros(clean.frames.shape[:3], bool)
