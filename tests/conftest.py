"""What every test may count on: one thread, off-screen rendering, and real recordings where they are present."""

import os

# Before anything imports numpy, torch or mujoco, which read these once; the tests' child processes inherit them.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "LP_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.setdefault("MUJOCO_GL", "egl")

from pathlib import Path

import numpy as np
import pytest

from wfm_sim.data.episode import Episode
from wfm_sim.data.real import REAL_DATA_VARIABLE, real_data_folder

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real recordings; the test is skipped where it is absent."""
    folder = real_data_folder()
    if not folder.is_dir():
        pytest.skip(f"no real recordings at {folder}; set {REAL_DATA_VARIABLE}")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    """Seeded randomness."""
    return np.random.default_rng(0)


@pytest.fixture
def tiny_episode(rng: np.random.Generator) -> Episode:
    """Six 32 x 48 frames of two coloured blocks, one of them moving, with poses and actions that fit each other."""
    from wfm_sim.actions import apply_action

    frames = np.full((6, 32, 48, 3), (150, 120, 90), np.uint8)
    for t in range(6):
        frames[t, 10:17, 5:12] = (220, 30, 30)
        frames[t, 20:27, 10 + 2 * t : 17 + 2 * t] = (30, 60, 220)
    actions = rng.uniform([-0.05] * 3 + [-0.25] * 3 + [0.0], [0.05] * 3 + [0.25] * 3 + [1.0], (5, 7))
    states = [np.array([0.3, 0.0, 0.1, 0.0, 0.0, 0.4, 1.0])]
    for action in actions:
        states.append(apply_action(states[-1], action))
    return Episode(
        frames,
        actions.astype(np.float32),
        np.array(states, np.float32),
        "push the red block",
        5.0,
        "000007",
        extras={"success": np.array([False] * 5 + [True]), "progress": np.linspace(0, 1, 6), "task": "push"},
    )
