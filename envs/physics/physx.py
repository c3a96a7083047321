"""PhysX on the CPU, through ovphysx; the only module that imports it. Deterministic to the bit.

The extra `physx` is optional because ovphysx and its parts are under NVIDIA's Omniverse licence, not an open one.
"""

from __future__ import annotations

import tempfile
import warnings
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from wfm_sim.assets.physics import Scene, Trajectory
from wfm_sim.assets.physics.trajectory import continuous
from wfm_sim.assets.physics.usd import RATE, body_path, write_usd
from wfm_sim.errors import UserError

BODIES = "/World/Dynamic/*"  # see assets/physics/usd.py


@cache
def _physx() -> tuple[Any, Any]:
    """The modules (ovphysx, ovstage), configured once for the process: no GPU, no threads."""
    try:
        version("mujoco-usd")
    except PackageNotFoundError:
        pass
    else:
        raise UserError("the package mujoco-usd crashes PhysX in the same process: pip uninstall mujoco-usd")
    try:
        import ovphysx
        import ovstage
        from ovphysx.types import GlobalConfigKey, LogLevel
        from physx_usd_schemas import schema_paths
    except (ImportError, OSError) as error:
        raise UserError(
            f"the backend 'physx' needs ovphysx (Linux x86-64 with AVX): pip install 'wfm-sim[physx]' ({error})"
        ) from error
    ovphysx.set_global_config(GlobalConfigKey.CPU_ONLY, True)
    # For a few bodies threads cost far more than they bring; the result is the same.
    ovphysx.set_global_config(GlobalConfigKey.NUM_THREADS, 0)
    # Otherwise a cylinder is a prism, which rolls 2 % too slowly.
    ovphysx.set_global_config(GlobalConfigKey.COLLISION_CYLINDER_CUSTOM_GEOMETRY, True)
    ovphysx.set_log_level(int(LogLevel.ERROR))
    schemas = [*map(str, schema_paths()), str(ovphysx.newton_schema_root())]
    ovstage.population.register_usd_schemas(schemas)
    return ovphysx, ovstage


def simulate_physx(scene: Scene, frames: int, fps: float) -> Trajectory:
    """As envs.physics.simulate, by PhysX from the scene's USD.

    Raises:
        UserError: ovphysx is missing, or the scene has soft bodies.
    """
    if scene.soft:
        raise UserError(f"{scene.name} has soft bodies: only the backend 'mujoco' simulates them")
    ovphysx, ovstage = _physx()
    from ovphysx.types import TensorType

    substeps = int(np.ceil(RATE / fps - 1e-9))
    bodies = scene.dynamic
    count = len(bodies)
    positions, turns = np.empty((frames, count, 3)), np.empty((frames, count, 4))
    linear, angular = np.empty((frames, count, 3)), np.empty((frames, count, 3))
    with tempfile.TemporaryDirectory() as folder:
        path = write_usd(scene, folder, looks=False)
        engine = ovphysx.PhysX()
        try:
            stage = ovstage.Stage(scene.name)
            ovstage.population.open_usd(stage, str(path), ordinal=1, domains=ovstage.PopulationDomain.ALL)
            stage.advance_write_floor(ordinal=1).wait()
            engine.wait_task(engine.attach_ovstage(stage, read_ordinal=1))
            engine.warmup()
            with warnings.catch_warnings():
                # Deprecated, but what replaces them reads a hundred times more slowly in 0.7.
                warnings.simplefilter("ignore", DeprecationWarning)
                poses = engine.create_tensor_binding(BODIES, tensor_type=TensorType.RIGID_BODY_POSE)
                speeds = engine.create_tensor_binding(BODIES, tensor_type=TensorType.RIGID_BODY_VELOCITY)
            order = [list(poses.prim_paths).index(body_path(body)) for body in bodies]
            pose, speed = np.zeros(poses.shape, np.float32), np.zeros(speeds.shape, np.float32)
            for frame in range(frames):
                for _ in range(substeps if frame else 0):
                    engine.step_sync(1 / (fps * substeps))
                poses.read(pose)
                speeds.read(speed)
                # xyz, then the quaternion as xyzw.
                positions[frame], turns[frame] = pose[order, :3], np.roll(pose[order, 3:], 1, axis=-1)
                linear[frame], angular[frame] = speed[order, :3], speed[order, 3:]
            poses.destroy()
            speeds.destroy()
        finally:
            engine.destroy()
    turns /= np.linalg.norm(turns, axis=-1, keepdims=True)
    return Trajectory(np.arange(frames) / fps, positions, continuous(turns), linear, angular, scene.names)
