"""A scene simulated by MuJoCo. Here and not in envs/, because the cameras of a scene are framed by what moves."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from wfm_sim.assets.mj import load_mujoco
from wfm_sim.assets.physics.mjspec import RATE, compile_scene
from wfm_sim.assets.physics.scene import Body, Scene, quaternion, rotation
from wfm_sim.assets.physics.trajectory import Array, Trajectory, continuous


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
    nodes = np.empty((frames, model.nflexvert, 3))
    for frame in range(frames):
        if frame:
            mj.mj_step(model, data, substeps)
        # Poses of the state reached (mj_step leaves those of the state before its last step).
        mj.mj_forward(model, data)
        nodes[frame] = data.flexvert_xpos
        positions[frame], turns[frame] = data.xpos[ids], data.xquat[ids]
        for i, body in enumerate(ids):
            mj.mj_objectVelocity(model, data, mj.mjtObj.mjOBJ_XBODY, body, velocity, 0)
            angular[frame, i], linear[frame, i] = velocity[:3], velocity[3:]
    rigid = Trajectory(np.arange(frames) / fps, positions, continuous(turns), linear, angular, scene.names)
    return _with_soft(rigid, scene, nodes) if scene.soft else rigid


def _with_soft(run: Trajectory, scene: Scene, nodes: Array) -> Trajectory:
    """The trajectory with the soft bodies' nodes [T, M, 3], and each as a body of its own: mean and best rigid turn."""
    positions, turns, linear, angular = [run.positions], [run.quaternions], [run.linear], [run.angular]
    first = 0
    for soft in scene.soft:
        own = nodes[:, first : first + int(np.prod(soft.count))]
        first += own.shape[1]
        middle = own.mean(axis=1)
        start = rotation(soft.quaternion)
        away = [Rotation.align_vectors(now - now.mean(axis=0), own[0] - middle[0])[0] for now in own]
        quaternions = continuous(np.array([[quaternion(turn * start)] for turn in away]))
        spins = np.array([(b * a.inv()).as_rotvec() for a, b in pairwise(away)])
        positions.append(middle[:, None])
        turns.append(quaternions)
        linear.append(np.gradient(middle, run.times, axis=0)[:, None] if len(run) > 1 else np.zeros((1, 1, 3)))
        angular.append(np.concatenate([np.zeros((1, 3)), spins.reshape(-1, 3) / run.times[1:2]])[:, None])
    return dataclasses.replace(
        run,
        positions=np.concatenate(positions, axis=1),
        quaternions=np.concatenate(turns, axis=1),
        linear=np.concatenate(linear, axis=1),
        angular=np.concatenate(angular, axis=1),
        nodes=nodes,
    )


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
