"""A scene in MuJoCo's words: a model to simulate, or one to render poses that may come from any engine.

Contacts. MuJoCo's are springs: with the negative form of `solref` and an impedance near 1, two touching points obey
a = -b v - k r, whatever their masses (MuJoCo's "Computation", section "Constraint model"; r is the penetration), but
never pull. Such a spring has a coefficient of restitution that follows from its damping ratio alone (Schwager and
Poeschel, "Coefficient of restitution and linear-dashpot model revisited", 2007, eq. 21). So k is one constant, and b
tells the restitution. Where two shapes meet MuJoCo takes the larger friction, and of the (negative) solref the
element-wise minimum, that is the larger b: the smaller restitution. That is the rule of scene.Shape.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np

from wfm_sim.assets.mj import load_mujoco
from wfm_sim.assets.physics.meshes import cone_hull
from wfm_sim.assets.physics.scene import Body, Joint, Material, Scene, Shape, SoftBody, rotation
from wfm_sim.assets.physics.textures import texture

RATE = {"euler": 1200, "rk4": 480}  # steps per second, at least
FREQUENCY = 300.0  # sqrt(k) [1/s]: a contact lasts about pi / 300 s, a dozen steps; 5 m/s go at most 17 mm deep
# The largest b [1/s]: a step may take this much of the speed of approach, or it would turn it round. It gives a
# restitution of 0.06, the smallest there is.
MAX_DAMPING = 0.9 * RATE["euler"]
IMPEDANCE = (0.99, 0.99, 0.001, 0.5, 2.0)
SOFT_SKIN = 0.005  # metres: the radius of a soft body's nodes
TEXTURE_SIZE = 256
SHADOW_SIZE = 2048  # texels across; the shadow map is much of the cost of a frame
SHADOW_REACH = 16.0  # metres from the origin that it covers; at its border the floor has black specks: keep that far
GRID = 4.0  # metres between the vertices of a plane as it is drawn; with a fine grid it costs more than all else
EXTENT = 4.0  # metres: MuJoCo's unit for much of what is set in its visual options


def compile_scene(
    scene: Scene, purpose: Literal["physics", "render"], width: int = 64, height: int = 64, timestep: float = 1 / 1200
) -> Any:
    """The compiled MjModel of a scene.

    'physics': joints, masses and contacts, no looks. 'render': looks, and every dynamic body a mocap body, so that
    poses are set and not simulated; frames up to width x height. Bodies and cameras keep their names.
    """
    mj = load_mujoco()
    spec = mj.MjSpec()
    spec.modelname = scene.name
    spec.compiler.autolimits = True
    option = spec.option
    option.gravity = scene.gravity
    option.timestep = timestep
    option.cone = mj.mjtCone.mjCONE_ELLIPTIC
    option.impratio = 10.0  # friction that does not creep
    if scene.integrator == "rk4":
        option.integrator = mj.mjtIntegrator.mjINT_RK4
    else:
        # Semi-implicit Euler. MuJoCo refuses flexes with the variant that takes drives implicitly.
        option.integrator = mj.mjtIntegrator.mjINT_EULER if scene.soft else mj.mjtIntegrator.mjINT_IMPLICITFAST
    if purpose == "render":
        _add_looks(mj, spec, scene, width, height)
    for body in scene.bodies:
        _add_body(mj, spec, scene, body, purpose)
    for soft in scene.soft:
        _add_soft(mj, spec, soft, purpose)
    return spec.compile()


@cache
def damping(restitution: float) -> float:
    """b [1/s] of a contact with that coefficient of restitution, 0..1; below 0.06 it acts as 0.06."""
    if restitution >= 1.0:
        return 0.0
    overdamped = MAX_DAMPING / (2 * FREQUENCY)
    if restitution <= restitution_of(overdamped):
        return MAX_DAMPING
    from scipy.optimize import brentq

    ratio = brentq(lambda ratio: restitution_of(ratio) - restitution, 1e-9, overdamped)
    return float(2 * ratio * FREQUENCY)


def restitution_of(ratio: float) -> float:
    """Restitution of a spring that pushes but never pulls, by its damping ratio: it lets go when its force is zero."""
    if ratio < 1:
        root = np.sqrt(1 - ratio**2)
        return float(np.exp(-ratio / root * np.arctan2(2 * ratio * root, 2 * ratio**2 - 1)))
    if ratio == 1:
        return float(np.exp(-2.0))
    root = np.sqrt(ratio**2 - 1)
    return float(((ratio - root) / (ratio + root)) ** (ratio / root))


def _add_body(mj: Any, spec: Any, scene: Scene, body: Body, purpose: str) -> None:
    made = spec.worldbody.add_body(name=body.name, pos=body.position, quat=body.quaternion)
    if body.dynamic:
        made.explicitinertial = True
        made.mass, made.inertia = body.mass, body.inertia
        made.ipos, made.iquat = (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0)
        if purpose == "render":
            made.mocap = True
        else:
            joints = [joint for joint in scene.joints if joint.body == body.name]
            for joint in joints:
                _add_joint(mj, spec, made, body, joint)
            if not joints:
                made.add_freejoint(name=body.name)
    for index, shape in enumerate(body.shapes):
        _add_shape(mj, spec, made, f"{body.name}/{index}", shape, scene, purpose)


def _add_joint(mj: Any, spec: Any, made: Any, body: Body, joint: Joint) -> None:
    kinds = {"hinge": mj.mjtJoint.mjJNT_HINGE, "ball": mj.mjtJoint.mjJNT_BALL, "slide": mj.mjtJoint.mjJNT_SLIDE}
    into_body = rotation(body.quaternion).inv()
    added = made.add_joint(
        name=joint.name,
        type=kinds[joint.kind],
        pos=into_body.apply(np.subtract(joint.anchor, body.position)),
        axis=into_body.apply(joint.axis),
    )
    if joint.limits is not None:
        added.range = joint.limits
        added.limited = True
        added.solref_limit = (-(FREQUENCY**2), -damping(0.0))
    if joint.drive is not None:
        speed, gain = joint.drive
        actuator = spec.add_actuator(name=joint.name, target=joint.name, trntype=mj.mjtTrn.mjTRN_JOINT)
        # force = gain (speed - velocity)
        actuator.gaintype, actuator.biastype = mj.mjtGain.mjGAIN_FIXED, mj.mjtBias.mjBIAS_AFFINE
        actuator.gainprm[:3] = (0.0, 0.0, 0.0)
        actuator.biasprm[:3] = (gain * speed, 0.0, -gain)


def _add_shape(mj: Any, spec: Any, made: Any, name: str, shape: Shape, scene: Scene, purpose: str) -> None:
    kinds = {
        "box": mj.mjtGeom.mjGEOM_BOX,
        "sphere": mj.mjtGeom.mjGEOM_SPHERE,
        "cylinder": mj.mjtGeom.mjGEOM_CYLINDER,
        "capsule": mj.mjtGeom.mjGEOM_CAPSULE,
        "cone": mj.mjtGeom.mjGEOM_MESH,
        "plane": mj.mjtGeom.mjGEOM_PLANE,
    }
    if purpose == "physics" and not shape.collides:
        return
    geom = made.add_geom(name=name, type=kinds[shape.kind], pos=shape.position, quat=shape.quaternion)
    if shape.kind == "cone":
        mesh = spec.add_mesh(name=name)
        vertices, faces = cone_hull(shape.size[0], shape.size[1])
        mesh.uservert, mesh.userface = vertices.ravel(), faces.ravel()
        geom.meshname = name
    elif shape.kind == "plane":
        geom.size = (*shape.size, GRID)
    else:
        geom.size = (*shape.size, *(0.0,) * (3 - len(shape.size)))
    if purpose == "render":
        geom.contype = geom.conaffinity = 0
        geom.material = shape.material
    else:
        geom.condim = 3
        geom.friction = (shape.friction, 0.0, 0.0)
        geom.solref = (-(FREQUENCY**2), -damping(shape.restitution))
        geom.solimp = IMPEDANCE


def _add_looks(mj: Any, spec: Any, scene: Scene, width: int, height: int) -> None:
    spec.visual.global_.offwidth, spec.visual.global_.offheight = width, height
    spec.visual.quality.shadowsize = SHADOW_SIZE
    spec.visual.map.shadowclip = SHADOW_REACH / EXTENT
    spec.visual.quality.offsamples = 0
    spec.visual.headlight.ambient = scene.sky.ambient
    spec.visual.headlight.diffuse = (0.12, 0.12, 0.12)
    spec.visual.headlight.specular = (0.0, 0.0, 0.0)
    spec.visual.map.znear, spec.visual.map.zfar = 0.01, 20.0  # times the extent
    spec.stat.extent = EXTENT  # or a wall would change the shadows
    spec.stat.center = (0.0, 0.0, 0.5)
    spec.add_texture(
        name="sky",
        type=mj.mjtTexture.mjTEXTURE_SKYBOX,
        builtin=mj.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=scene.sky.zenith,
        rgb2=scene.sky.horizon,
        width=128,
        height=768,
    )
    for material in scene.materials:
        _add_material(mj, spec, material)
    for light in scene.lights:
        spec.worldbody.add_light(
            name=light.name,
            type=mj.mjtLightType.mjLIGHT_DIRECTIONAL,
            dir=light.direction,
            pos=-5.0 * np.array(light.direction),
            diffuse=light.diffuse,
            specular=(0.3, 0.3, 0.3),
            ambient=(0.0, 0.0, 0.0),
            castshadow=light.shadow,
        )
    for camera in scene.cameras:
        spec.worldbody.add_camera(
            name=camera.name,
            pos=camera.position,
            quat=camera.quaternion,
            fovy=camera.fovy,
            mode=mj.mjtCamLight.mjCAMLIGHT_FIXED,
        )


def _add_material(mj: Any, spec: Any, material: Material) -> None:
    made = spec.add_material(name=material.name, specular=material.specular, shininess=0.4)
    made.reflectance = material.reflectance
    if material.kind == "plain":
        made.rgba = (*material.rgb, 1.0)
        return
    pixels = texture(material, TEXTURE_SIZE)
    added = spec.add_texture(
        name=material.name, type=mj.mjtTexture.mjTEXTURE_2D, width=TEXTURE_SIZE, height=TEXTURE_SIZE, nchannel=3
    )
    added.data = pixels.tobytes()
    made.textures[mj.mjtTextureRole.mjTEXROLE_RGB] = material.name
    made.texuniform = True
    made.texrepeat = (1 / material.scale, 1 / material.scale)


def _add_soft(mj: Any, spec: Any, soft: SoftBody, purpose: str) -> None:
    made = spec.worldbody.make_flex(
        name=soft.name,
        type="grid",
        dim=3,
        count=soft.count,
        spacing=(soft.spacing,) * 3,
        radius=SOFT_SKIN,
        mass=soft.mass,
        pos=soft.position,
        quat=soft.quaternion,
    )
    made.young, made.poisson, made.damping = soft.young, soft.poisson, soft.damping
    if purpose == "render":
        made.contype = made.conaffinity = 0
        made.material = soft.material
    else:
        made.selfcollide = mj.mjtFlexSelf.mjFLEXSELF_NONE
        made.condim = 3
        made.friction = (soft.friction, 0.0, 0.0)
        made.solref, made.solimp = (-(FREQUENCY**2), -damping(0.0)), IMPEDANCE
