"""A scene simulated by MuJoCo. It lies here and not in envs/ because the cameras of a scene are framed by what moves."""

from __future__ import annotations

from typing import Any

import numpy as np

from wfm_sim.assets.mj import load_mujoco
from wfm_sim.assets.physics.mjspec import RATE, compile_scene
from wfm_sim.assets.physics.scene import Body, Scene, rotation
from wfm_sim.assets.physics.trajectory import Trajectory, continuous


def roll_out(scene: Scene, frames: int, fps: float, refine: int = 1) -> Trajectory:
    """`frames` states, 1 / fps seconds apart, the first at time 0. Deterministic to the bit on one machine.

    `refine` divides the time step, to see what depends on it.
    """
    mj = load_mujoco()
    substeps = int(np.ceil(RATE[scene.integrator] / fps - 1e-9)) * refine
    model = compile_scene(scene, "physics", timestep=1 / (fps * substeps))
    data = mj.MjData(model)
    bodies = scene.dynamic
    ids = np.array([model.body(body.name).id for body in bodies], dtype=int)
    for body in bodies:
        _set_velocity(mj, model, data, body)
    count = len(bodies)
    positions, turns = np.empty((frames, count, 3)), np.empty((frames, count, 4))
    linear, angular = np.empty((frames, count, 3)), np.empty((frames, count, 3))
    velocity = np.empty(6)
    for frame in range(frames):
        if frame:
            mj.mj_step(model, data, substeps)
        # Poses of the state reached (mj_step leaves those of the state before its last step).
        mj.mj_forward(model, data)
        positions[frame], turns[frame] = data.xpos[ids], data.xquat[ids]
        for i, body in enumerate(ids):
            mj.mj_objectVelocity(model, data, mj.mjtObj.mjOBJ_XBODY, body, velocity, 0)
            angular[frame, i], linear[frame, i] = velocity[:3], velocity[3:]
    return Trajectory(np.arange(frames) / fps, positions, continuous(turns), linear, angular, scene.names)


def _set_velocity(mj: Any, model: Any, data: Any, body: Body) -> None:
    """Write a body's velocities at the start to its joint. MuJoCo turns free and ball joints about the body's axes."""
    joint = int(model.body(body.name).jntadr[0])
    address = int(model.jnt_dofadr[joint])
    kind = model.jnt_type[joint]
    spin = rotation(body.quaternion).inv().apply(body.angular)
    axis = rotation(body.quaternion).apply(model.jnt_axis[joint])
    if kind == mj.mjtJoint.mjJNT_FREE:
        data.qvel[address : address + 6] = (*body.linear, *spin)
    elif kind == mj.mjtJoint.mjJNT_BALL:
        data.qvel[address : address + 3] = spin
    elif kind == mj.mjtJoint.mjJNT_HINGE:
        data.qvel[address] = np.dot(body.angular, axis)
    else:
        data.qvel[address] = np.dot(body.linear, axis)
