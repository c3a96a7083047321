"""One scene, several engines."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from wfm_sim.assets.physics import Scene, Trajectory
from wfm_sim.assets.physics.rollout import roll_out
from wfm_sim.errors import UserError, unknown


def _mujoco(scene: Scene, frames: int, fps: float) -> Trajectory:
    return roll_out(scene, frames, fps)


def _physx(scene: Scene, frames: int, fps: float) -> Trajectory:
    from wfm_sim.envs.physics.physx import simulate_physx

    return simulate_physx(scene, frames, fps)


def _isaac(scene: Scene, frames: int, fps: float) -> Trajectory:
    from wfm_sim.envs.physics.isaac import simulate_isaac

    return simulate_isaac(scene, frames, fps)


BACKENDS: dict[str, Callable[[Scene, int, float], Trajectory]] = {
    "mujoco": _mujoco,
    "physx": _physx,
    "isaac": _isaac,
}


def simulate(scene: Scene, frames: int = 100, fps: float = 24, backend: str = "mujoco") -> Trajectory:
    """How the scene moves: `frames` states, 1 / fps seconds apart, the first at time 0.

    Every backend is deterministic to the bit on one machine. 'physx' needs the extra `physx`, 'isaac' Isaac Sim.

    Raises:
        UserError: unknown or absent backend, a count or rate that is not positive, or a scene the backend cannot run.
    """
    if backend not in BACKENDS:
        raise unknown("physics backend", backend, BACKENDS)
    if frames < 1 or not fps > 0:
        raise UserError(f"a trajectory needs at least one frame and a positive rate, not {frames} at {fps} fps")
    return BACKENDS[backend](scene, frames, fps)


def engine_version(backend: str) -> str:
    """Package and version of an engine, e.g. 'mujoco 4.0.0'.

    Raises:
        UserError: unknown backend, or one that is not installed.
    """
    packages = {"mujoco": "mujoco", "physx": "ovphysx", "isaac": "isaacsim"}
    if backend not in packages:
        raise unknown("physics backend", backend, packages)
    try:
        return f"{packages[backend]} {version(packages[backend])}"
    except PackageNotFoundError:
        raise UserError(f"the backend {backend!r} is not installed: it needs the package {packages[backend]}") from None
