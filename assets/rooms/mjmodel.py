"""A room in MuJoCo's words, to be looked at: one mesh per material, no physics."""

from __future__ import annotations

from typing import Any

import numpy as np

from wfm_sim.assets.mj import load_mujoco
from wfm_sim.assets.rooms.meshes import mesh_of
from wfm_sim.assets.rooms.room import Room

NEAR, FAR = 0.03, 12.0  # metres: closer than any wall that a camera may come to, farther than any room is wide
CAMERA = "camera"


def compile_room(room: Room, size: tuple[int, int], vertical_fov: float) -> Any:
    """The MjModel of a room for frames up to `size` (height, width), with one camera named CAMERA."""
    mj = load_mujoco()
    spec = mj.MjSpec()
    spec.modelname = f"room{room.seed}"
    visual = spec.visual
    visual.global_.offheight, visual.global_.offwidth = size
    visual.map.znear, visual.map.zfar = NEAR, FAR
    visual.quality.offsamples = 0  # the renderer supersamples: so that depth has the same samples
    visual.quality.shadowsize = 0
    visual.headlight.ambient = (room.ambient,) * 3
    visual.headlight.diffuse = visual.headlight.specular = (0, 0, 0)  # it would move with the camera
    spec.stat.extent = 1.0  # the unit of znear and zfar
    spec.stat.center = (0, 0, 0)
    world = spec.worldbody
    for light in room.lights:
        world.add_light(
            type=mj.mjtLightType.mjLIGHT_DIRECTIONAL,
            dir=light.direction,
            diffuse=light.diffuse,
            ambient=(0, 0, 0),
            specular=(0, 0, 0),
            castshadow=False,
        )
    world.add_camera(name=CAMERA, fovy=vertical_fov)
    for name, material in room.materials.items():
        parts = [part for part in room.parts if part.material == name]
        if not parts:
            continue
        pixels = material.pixels
        texture = spec.add_texture(
            name=name, type=mj.mjtTexture.mjTEXTURE_2D, width=pixels.shape[1], height=pixels.shape[0], nchannel=3
        )
        texture.data = np.ascontiguousarray(pixels).tobytes()
        look = spec.add_material(name=name, specular=0.0, shininess=0.0, reflectance=0.0)
        look.textures[mj.mjtTextureRole.mjTEXROLE_RGB] = name
        mesh = mesh_of(parts, material)
        # MuJoCo's first texture row is v = 0.
        made = spec.add_mesh(name=name, inertia=mj.mjtMeshInertia.mjMESH_INERTIA_SHELL)
        made.uservert = mesh.vertices.ravel()
        made.usernormal = mesh.normals.ravel()
        made.usertexcoord = (mesh.uv * [1, -1] + [0, 1]).ravel()
        made.userface = made.userfacenormal = made.userfacetexcoord = mesh.faces.ravel()
        world.add_geom(type=mj.mjtGeom.mjGEOM_MESH, meshname=name, material=name, contype=0, conaffinity=0, mass=0.0)
    return spec.compile()
