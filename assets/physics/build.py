"""A scene from its name and seed: the author's draft, and around it floor, walls, light, sky and four cameras."""

from __future__ import annotations

import dataclasses
import zlib

import numpy as np

from wfm_sim.assets.physics import extensions, falls, mechanisms, slopes, stacks
from wfm_sim.assets.physics.draft import GRAVITY, Author, Draft
from wfm_sim.assets.physics.framing import FRAMES, frame_cameras
from wfm_sim.assets.physics.look import FLOOR_TEXTURES, Paint, draw_lights, draw_walls
from wfm_sim.assets.physics.rollout import roll_out
from wfm_sim.assets.physics.scene import Scene, Shape, rotation
from wfm_sim.assets.physics.solids import corners, fixed
from wfm_sim.errors import UserError, unknown

FPS = 24
FLOOR_HALF = 40.0  # metres; what is drawn of the floor

AUTHORS: dict[str, Author] = {
    "free_fall": falls.free_fall,
    "planar_slope": slopes.planar_slope,
    "u_slope": slopes.u_slope,
    "stable_stack": stacks.stable_stack,
    "unstable_stack": stacks.unstable_stack,
    "dominoes": mechanisms.dominoes,
    "seesaw": mechanisms.seesaw,
    "gyroscope": mechanisms.gyroscope,
    "newtons_cradle": extensions.newtons_cradle,
    "soft_drop": extensions.soft_drop,
    "bowl": extensions.bowl,
    "pusher": extensions.pusher,
}
SCENES = ("free_fall", "planar_slope", "u_slope", "stable_stack", "unstable_stack", "dominoes", "seesaw", "gyroscope")
EXTENSIONS = ("newtons_cradle", "soft_drop", "bowl", "pusher")


def build(name: str, seed: int) -> Scene:
    """The scene of a name and a seed; the same to the bit whenever and in whatever order it is built on one machine.

    Needs MuJoCo: the cameras are framed by what moves in the first 33 frames.

    Raises:
        UserError: unknown scene, or a negative seed.
    """
    if name not in AUTHORS:
        raise unknown("physics scene", name, AUTHORS)
    if seed < 0:
        raise UserError(f"the seed of a scene must be a non-negative integer, not {seed}")
    # Streams of their own: a change to one scene, or to how scenes look, leaves every other thing as it was.
    layout, look, around, view = (
        np.random.default_rng([seed, zlib.crc32(name.encode()), stream]) for stream in range(4)
    )
    paint = Paint(look)
    draft = AUTHORS[name](layout, paint)
    surroundings = Paint(around)
    floor = surroundings.ground("floor", FLOOR_TEXTURES, 1.6)
    lights, sky = draw_lights(around)
    friction, restitution = draft.floor
    ground = fixed("floor", Shape("plane", (FLOOR_HALF,) * 2, floor, friction=friction, restitution=restitution))
    bare = Scene(
        name=name,
        seed=int(seed),
        bodies=(ground, *draft.bodies),
        joints=tuple(draft.joints),
        cameras=(),
        lights=lights,
        materials=(),
        sky=sky,
        gravity=(0.0, 0.0, -GRAVITY),
        parameters=draft.parameters,
        integrator=draft.integrator,
        soft=tuple(draft.soft),
    )
    cameras = frame_cameras(_seen(bare, draft), draft.views, view)
    reach = max(float(np.linalg.norm(camera.position[:2])) for camera in cameras)
    walls = draw_walls(around, surroundings, reach)
    bodies = (ground, fixed("walls", *walls), *draft.bodies) if walls else bare.bodies
    materials = (*surroundings.materials, *paint.materials)
    return dataclasses.replace(bare, bodies=bodies, cameras=cameras, materials=materials)


def _seen(scene: Scene, draft: Draft) -> np.ndarray:
    """All corners of all that moves, at each of the frames that are scored: float64 [P, 3]."""
    moved = roll_out(scene, FRAMES, FPS)
    points = []
    for i, body in enumerate(scene.dynamic):
        local = np.concatenate([corners(shape) for shape in body.shapes])
        turned = np.einsum("tij,pj->tpi", rotation(moved.quaternions[:, i]).as_matrix(), local)
        points.append((turned + moved.positions[:, None, i]).reshape(-1, 3))
    if moved.nodes is not None:
        points.append(moved.nodes.reshape(-1, 3))
    return np.concatenate(points)
