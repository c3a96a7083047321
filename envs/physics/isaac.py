"""Isaac Sim 5.1: it opens the scene's USD, simulates it with its PhysX and records it with its ray tracer.

Isaac Sim wants a process of its own, started before anything else is imported; `simulate_isaac` and `record_isaac`
start it (isaac_runner.py) and read what it wrote. It runs on machines with an NVIDIA RTX GPU only.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wfm_sim.assets.physics import Scene, Trajectory
from wfm_sim.assets.physics.trajectory import continuous
from wfm_sim.assets.physics.usd import body_path, write_usd
from wfm_sim.errors import UserError

EULA = "OMNI_KIT_ACCEPT_EULA"
INSTALL = (
    "the backend 'isaac' needs Isaac Sim 5.1 on a machine with an NVIDIA RTX GPU and Python 3.11: in an environment of "
    "its own, pip install 'wfm-sim[isaac]' and what NVIDIA's page 'Isaac Sim: Python environment installation' adds"
)


def check_isaac() -> None:
    """Raise UserError unless Isaac Sim is installed and its licence has been accepted."""
    if importlib.util.find_spec("isaacsim") is None:
        raise UserError(INSTALL)
    if os.environ.get(EULA, "").upper() not in ("YES", "Y", "1"):
        raise UserError(f"Isaac Sim asks you to accept NVIDIA's licence: set {EULA}=YES once you have read it")


def simulate_isaac(scene: Scene, frames: int, fps: float) -> Trajectory:
    """As envs.physics.simulate, by the PhysX inside Isaac Sim.

    Raises:
        UserError: Isaac Sim is absent, its licence not accepted, or it failed.
    """
    check_isaac()
    with tempfile.TemporaryDirectory() as folder:
        return record_isaac(scene, Path(folder), frames, fps, size=None)


def record_isaac(
    scene: Scene, folder: Path, frames: int, fps: float, size: tuple[int, int] | None = (256, 256)
) -> Trajectory:
    """Simulate and, unless `size` (width, height) is None, record every camera.

    Writes FOLDER/poses.npz, and per camera and frame FOLDER/<camera>/<frame>.npz with `rgb` uint8 [H, W, 3] and `mask`
    uint8 [H, W] (0 background, i + 1 names[i]); returns the trajectory. `frames` of them can be read by `read_frame`.

    Raises:
        UserError: Isaac Sim is absent, its licence not accepted, or it failed.
    """
    check_isaac()
    stage = write_usd(scene, folder)
    command = [sys.executable, str(Path(__file__).with_name("isaac_runner.py")), str(stage), str(folder)]
    command += ["--frames", str(frames), "--fps", str(fps), "--bodies", *(body_path(body) for body in scene.dynamic)]
    if size is not None:
        command += ["--size", str(size[0]), str(size[1]), "--cameras", *(camera.name for camera in scene.cameras)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not (folder / "poses.npz").is_file():
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        raise UserError(f"Isaac Sim did not finish ({reason}); it needs an NVIDIA RTX GPU with a current driver")
    with np.load(folder / "poses.npz") as poses:
        return Trajectory(
            np.arange(frames) / fps,
            poses["positions"],
            continuous(poses["quaternions"]),
            poses["linear"],
            poses["angular"],
            scene.names,
        )


def read_frame(folder: Path, camera: str, frame: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Picture [H, W, 3] and mask [H, W] of a recording of `record_isaac`, both uint8."""
    with np.load(folder / camera / f"{frame:05d}.npz") as content:
        return content["rgb"], content["mask"]
