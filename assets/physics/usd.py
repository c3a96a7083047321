"""A scene as a USD stage with UsdPhysics: what PhysX runs here and Isaac Sim opens. Needs usd-core (extra `physx`).

A body is an Xform with its mass; its shapes are primitives for contact (purpose 'guide') and meshes with textures to be
seen. The attributes named physx* are those of PhysX' own schemas; other readers of USD pass over them.

How contacts are set so that the analytic laws hold: friction combines to the larger and restitution to the smaller of
two (as scene.Shape says), nothing is damped, nothing sleeps, and rebounds count from the slowest impact on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from wfm_sim.assets.physics.meshes import cone_hull, mesh_of
from wfm_sim.assets.physics.scene import (
    Body,
    Camera,
    Joint,
    Light,
    Material,
    Quaternion,
    Scene,
    Shape,
    quaternion,
    rotation,
)
from wfm_sim.assets.physics.textures import texture
from wfm_sim.errors import UserError

RATE = 2400  # PhysX steps per second: what a gyroscope needs
APERTURE = 24.0  # mm, vertical; only its ratio to the focal length counts
SOLVER_ITERATIONS = (16, 4)  # position, velocity
CONTACT_OFFSET = 0.004  # metres: contacts are made this far ahead of touching
TEXTURE_SIZE = 512


def load_pxr() -> Any:
    """The modules of usd-core that we use, as attributes.

    Raises:
        UserError: usd-core is not installed.
    """
    try:
        from pxr import Gf, Sdf, Usd, UsdGeom, UsdLux, UsdPhysics, UsdShade, Vt
    except ImportError as error:
        raise UserError("USD needs usd-core: pip install 'wfm-sim[physx]'") from error
    from types import SimpleNamespace

    return SimpleNamespace(
        Gf=Gf, Sdf=Sdf, Usd=Usd, UsdGeom=UsdGeom, UsdLux=UsdLux, UsdPhysics=UsdPhysics, UsdShade=UsdShade, Vt=Vt
    )


def write_usd(scene: Scene, folder: str | Path, looks: bool = True) -> Path:
    """Write FOLDER/<scene name>.usda, and its textures beside it when `looks`; returns the stage's path.

    Without `looks` meshes, materials, lights and the sky are left out: what a physics engine needs.

    Raises:
        UserError: usd-core is missing, or the scene has soft bodies, which UsdPhysics cannot describe.
    """
    if scene.soft:
        raise UserError(f"{scene.name} has soft bodies: UsdPhysics knows rigid ones only; use the backend 'mujoco'")
    pxr = load_pxr()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{scene.name}.usda"
    stage = pxr.Usd.Stage.CreateInMemory()
    pxr.UsdGeom.SetStageUpAxis(stage, pxr.UsdGeom.Tokens.z)
    pxr.UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    pxr.UsdPhysics.SetStageKilogramsPerUnit(stage, 1.0)
    world = pxr.UsdGeom.Xform.Define(stage, "/World")
    stage.SetDefaultPrim(world.GetPrim())
    _add_engine(pxr, stage, scene)
    materials = {}
    if looks:
        pxr.UsdGeom.Scope.Define(stage, "/World/Looks")
        materials = {material.name: _add_material(pxr, stage, material, folder) for material in scene.materials}
        for light in scene.lights:
            _add_light(pxr, stage, light)
        dome = pxr.UsdLux.DomeLight.Define(stage, "/World/Sky")
        dome.CreateColorAttr(pxr.Gf.Vec3f(*np.add(scene.sky.zenith, scene.sky.horizon) / 2))
        dome.CreateIntensityAttr(1000.0 * float(np.mean(scene.sky.ambient)))
    contact = _ContactMaterials(pxr, stage)
    for body in scene.bodies:
        _add_body(pxr, stage, body, contact, materials)
    for joint in scene.joints:
        _add_joint(pxr, stage, joint, scene.body(joint.body))
    for camera in scene.cameras:
        _add_camera(pxr, stage, camera)
    stage.GetRootLayer().Export(str(path))
    return path


def body_path(body: Body) -> str:
    """Where a body is in the stage. Dynamic bodies have a folder of their own, so that one pattern finds them."""
    return f"/World/Dynamic/{body.name}" if body.dynamic else f"/World/Static/{body.name}"


def validate(path: str | Path) -> list[str]:
    """What usd-core's validators object to in a stage: no sentences when all is well."""
    pxr = load_pxr()
    from pxr import UsdValidation

    registry = UsdValidation.ValidationRegistry()
    context = UsdValidation.ValidationContext(registry.GetOrLoadAllValidators())
    return [str(error.GetErrorAsString()) for error in context.Validate(pxr.Usd.Stage.Open(str(path)))]


def _add_engine(pxr: Any, stage: Any, scene: Scene) -> None:
    engine = pxr.UsdPhysics.Scene.Define(stage, "/World/PhysicsScene")
    strength = float(np.linalg.norm(scene.gravity))
    engine.CreateGravityDirectionAttr(pxr.Gf.Vec3f(*np.array(scene.gravity) / (strength or 1.0)))
    engine.CreateGravityMagnitudeAttr(strength)
    prim = engine.GetPrim()
    prim.AddAppliedSchema("PhysxSceneAPI")
    types = pxr.Sdf.ValueTypeNames
    for name, kind, value in (
        ("timeStepsPerSecond", types.UInt, RATE),
        ("solverType", types.Token, "TGS"),
        ("broadphaseType", types.Token, "MBP"),
        ("enableGPUDynamics", types.Bool, False),
        ("bounceThreshold", types.Float, 0.02),
        ("enableEnhancedDeterminism", types.Bool, True),
        ("disableSleeping", types.Bool, True),
    ):
        prim.CreateAttribute(f"physxScene:{name}", kind).Set(value)


def _place(pxr: Any, prim: Any, position: Any, turn: Quaternion) -> None:
    prim.AddTranslateOp().Set(pxr.Gf.Vec3d(*map(float, position)))
    prim.AddOrientOp(pxr.UsdGeom.XformOp.PrecisionDouble).Set(pxr.Gf.Quatd(*turn))


def _add_body(pxr: Any, stage: Any, body: Body, contact: _ContactMaterials, materials: dict[str, Any]) -> None:
    xform = pxr.UsdGeom.Xform.Define(stage, body_path(body))
    _place(pxr, xform, body.position, body.quaternion)
    prim = xform.GetPrim()
    if body.dynamic:
        rigid = pxr.UsdPhysics.RigidBodyAPI.Apply(prim)
        # PhysX takes both velocities in the world's axes, and USD degrees.
        rigid.CreateVelocityAttr(pxr.Gf.Vec3f(*body.linear))
        rigid.CreateAngularVelocityAttr(pxr.Gf.Vec3f(*np.rad2deg(body.angular)))
        mass = pxr.UsdPhysics.MassAPI.Apply(prim)
        mass.CreateMassAttr(body.mass)
        mass.CreateCenterOfMassAttr(pxr.Gf.Vec3f(0.0))
        mass.CreateDiagonalInertiaAttr(pxr.Gf.Vec3f(*body.inertia))
        mass.CreatePrincipalAxesAttr(pxr.Gf.Quatf(1.0))
        prim.AddAppliedSchema("PhysxRigidBodyAPI")
        types = pxr.Sdf.ValueTypeNames
        for name, kind, value in (
            ("linearDamping", types.Float, 0.0),
            ("angularDamping", types.Float, 0.0),
            ("maxAngularVelocity", types.Float, 36000.0),
            ("sleepThreshold", types.Float, 0.0),
            ("stabilizationThreshold", types.Float, 0.0),
            ("solverPositionIterationCount", types.Int, SOLVER_ITERATIONS[0]),
            ("solverVelocityIterationCount", types.Int, SOLVER_ITERATIONS[1]),
        ):
            prim.CreateAttribute(f"physxRigidBody:{name}", kind).Set(value)
    for index, shape in enumerate(body.shapes):
        path = f"{body_path(body)}/shape{index}"
        if shape.collides:
            _add_collider(pxr, stage, f"{path}_contact", shape, contact)
        if materials:
            _add_visual(pxr, stage, f"{path}_look", shape, materials[shape.material])


def _add_collider(pxr: Any, stage: Any, path: str, shape: Shape, contact: _ContactMaterials) -> None:
    geom = pxr.UsdGeom
    if shape.kind == "box":
        made = geom.Cube.Define(stage, path)
        made.CreateSizeAttr(2.0)
        made.CreateExtentAttr([pxr.Gf.Vec3f(-1.0), pxr.Gf.Vec3f(1.0)])
    elif shape.kind == "sphere":
        made = geom.Sphere.Define(stage, path)
        made.CreateRadiusAttr(shape.size[0])
    elif shape.kind in ("cylinder", "capsule"):
        made = (geom.Cylinder if shape.kind == "cylinder" else geom.Capsule).Define(stage, path)
        made.CreateRadiusAttr(shape.size[0])
        made.CreateHeightAttr(2 * shape.size[1])
        made.CreateAxisAttr("Z")
    elif shape.kind == "plane":
        made = geom.Plane.Define(stage, path)
        made.CreateAxisAttr("Z")
        made.CreateWidthAttr(2 * shape.size[0])
        made.CreateLengthAttr(2 * shape.size[1])
    else:
        made = geom.Mesh.Define(stage, path)
        vertices, faces = cone_hull(shape.size[0], shape.size[1])
        _set_triangles(pxr, made, vertices, faces)
        pxr.UsdPhysics.MeshCollisionAPI.Apply(made.GetPrim()).CreateApproximationAttr("convexHull")
    if shape.kind != "box":
        made.CreateExtentAttr(geom.Boundable.ComputeExtentFromPlugins(made, pxr.Usd.TimeCode.Default()))
    _place(pxr, made, shape.position, shape.quaternion)
    if shape.kind == "box":
        made.AddScaleOp().Set(pxr.Gf.Vec3f(*shape.size))
    made.CreatePurposeAttr(geom.Tokens.guide)
    prim = made.GetPrim()
    pxr.UsdPhysics.CollisionAPI.Apply(prim)
    prim.AddAppliedSchema("PhysxCollisionAPI")
    prim.CreateAttribute("physxCollision:contactOffset", pxr.Sdf.ValueTypeNames.Float).Set(CONTACT_OFFSET)
    prim.CreateAttribute("physxCollision:restOffset", pxr.Sdf.ValueTypeNames.Float).Set(0.0)
    binding = pxr.UsdShade.MaterialBindingAPI.Apply(prim)
    binding.Bind(contact.of(shape), materialPurpose="physics")


class _ContactMaterials:
    """One physics material for each pair of friction and restitution."""

    def __init__(self, pxr: Any, stage: Any) -> None:
        self._pxr, self._stage = pxr, stage
        self._made: dict[tuple[float, float], Any] = {}

    def of(self, shape: Shape) -> Any:
        key = (shape.friction, shape.restitution)
        if key not in self._made:
            pxr = self._pxr
            if not self._made:
                pxr.UsdGeom.Scope.Define(self._stage, "/World/Contacts")
            made = pxr.UsdShade.Material.Define(self._stage, f"/World/Contacts/contact{len(self._made)}")
            api = pxr.UsdPhysics.MaterialAPI.Apply(made.GetPrim())
            api.CreateStaticFrictionAttr(shape.friction)
            api.CreateDynamicFrictionAttr(shape.friction)
            api.CreateRestitutionAttr(shape.restitution)
            made.GetPrim().AddAppliedSchema("PhysxMaterialAPI")
            token = pxr.Sdf.ValueTypeNames.Token
            made.GetPrim().CreateAttribute("physxMaterial:frictionCombineMode", token).Set("max")
            made.GetPrim().CreateAttribute("physxMaterial:restitutionCombineMode", token).Set("min")
            self._made[key] = made
        return self._made[key]


def _set_triangles(pxr: Any, mesh: Any, vertices: np.ndarray, faces: np.ndarray) -> None:
    mesh.CreatePointsAttr(pxr.Vt.Vec3fArray.FromNumpy(vertices.astype(np.float32)))
    mesh.CreateFaceVertexCountsAttr(pxr.Vt.IntArray([3] * len(faces)))
    mesh.CreateFaceVertexIndicesAttr(pxr.Vt.IntArray.FromNumpy(faces.ravel()))
    mesh.CreateSubdivisionSchemeAttr("none")


def _add_visual(pxr: Any, stage: Any, path: str, shape: Shape, material: tuple[Any, float]) -> None:
    looks, scale = material
    made = pxr.UsdGeom.Mesh.Define(stage, path)
    mesh = mesh_of(shape)
    _set_triangles(pxr, made, mesh.vertices, mesh.faces)
    made.CreateExtentAttr(pxr.UsdGeom.PointBased.ComputeExtent(made.GetPointsAttr().Get()))
    coordinates = pxr.UsdGeom.PrimvarsAPI(made).CreatePrimvar("st", pxr.Sdf.ValueTypeNames.TexCoord2fArray, "vertex")
    coordinates.Set(pxr.Vt.Vec2fArray.FromNumpy((mesh.uv / scale).astype(np.float32)))
    _place(pxr, made, shape.position, shape.quaternion)
    pxr.UsdShade.MaterialBindingAPI.Apply(made.GetPrim()).Bind(looks)


def _add_joint(pxr: Any, stage: Any, joint: Joint, body: Body) -> None:
    kinds = {
        "hinge": pxr.UsdPhysics.RevoluteJoint,
        "slide": pxr.UsdPhysics.PrismaticJoint,
        "ball": pxr.UsdPhysics.SphericalJoint,
    }
    made = kinds[joint.kind].Define(stage, f"/World/Joints/{joint.name}")
    made.CreateBody1Rel().SetTargets([body_path(body)])
    # The joint's own z axis is the axis it turns about or slides along.
    frame, _ = Rotation.align_vectors([joint.axis], [[0.0, 0.0, 1.0]])
    into_body = rotation(body.quaternion).inv()
    made.CreateLocalPos0Attr(pxr.Gf.Vec3f(*joint.anchor))
    made.CreateLocalPos1Attr(pxr.Gf.Vec3f(*map(float, into_body.apply(np.subtract(joint.anchor, body.position)))))
    made.CreateLocalRot0Attr(pxr.Gf.Quatf(*quaternion(frame)))
    made.CreateLocalRot1Attr(pxr.Gf.Quatf(*quaternion(into_body * frame)))
    made.CreateAxisAttr("Z")
    if joint.limits is not None:
        low, high = joint.limits if joint.kind == "slide" else np.rad2deg(joint.limits)
        made.CreateLowerLimitAttr(float(low))
        made.CreateUpperLimitAttr(float(high))
    if joint.drive is not None:
        drive = pxr.UsdPhysics.DriveAPI.Apply(made.GetPrim(), "linear")
        drive.CreateTypeAttr("force")
        drive.CreateTargetVelocityAttr(joint.drive[0])
        drive.CreateDampingAttr(joint.drive[1])
        drive.CreateStiffnessAttr(0.0)


def _add_camera(pxr: Any, stage: Any, camera: Camera) -> None:
    made = pxr.UsdGeom.Camera.Define(stage, f"/World/Cameras/{camera.name}")
    _place(pxr, made, camera.position, camera.quaternion)
    made.CreateVerticalApertureAttr(APERTURE)
    made.CreateHorizontalApertureAttr(APERTURE)  # whoever renders widens it to the picture's shape
    made.CreateFocalLengthAttr(float(APERTURE / 2 / np.tan(np.deg2rad(camera.fovy) / 2)))
    made.CreateClippingRangeAttr(pxr.Gf.Vec2f(0.01, 200.0))


def _add_light(pxr: Any, stage: Any, light: Light) -> None:
    made = pxr.UsdLux.DistantLight.Define(stage, f"/World/Lights/{light.name}")
    # A distant light shines along its own -z axis.
    turn, _ = Rotation.align_vectors([light.direction], [[0.0, 0.0, -1.0]])
    _place(pxr, made, (0.0, 0.0, 0.0), quaternion(turn))
    strength = max(light.diffuse)
    made.CreateColorAttr(pxr.Gf.Vec3f(*(value / strength for value in light.diffuse)))
    made.CreateIntensityAttr(4000.0 * strength)
    made.CreateAngleAttr(0.5)


def _add_material(pxr: Any, stage: Any, material: Material, folder: Path) -> tuple[Any, float]:
    """The UsdShade material and the scale of its texture."""
    path = f"/World/Looks/{material.name}"
    made = pxr.UsdShade.Material.Define(stage, path)
    types = pxr.Sdf.ValueTypeNames
    surface = pxr.UsdShade.Shader.Define(stage, f"{path}/surface")
    surface.CreateIdAttr("UsdPreviewSurface")
    surface.CreateInput("roughness", types.Float).Set(0.7 - material.specular)
    colour = surface.CreateInput("diffuseColor", types.Color3f)
    if material.kind == "plain":
        # USD's colours are linear, ours are those of a picture.
        colour.Set(pxr.Gf.Vec3f(*(value**2.2 for value in material.rgb)))
    else:
        name = f"textures/{material.name}.png"
        _write_png(folder / name, texture(material, TEXTURE_SIZE))
        reader = pxr.UsdShade.Shader.Define(stage, f"{path}/coordinates")
        reader.CreateIdAttr("UsdPrimvarReader_float2")
        reader.CreateInput("varname", types.String).Set("st")
        image = pxr.UsdShade.Shader.Define(stage, f"{path}/texture")
        image.CreateIdAttr("UsdUVTexture")
        image.CreateInput("file", types.Asset).Set(f"./{name}")
        image.CreateInput("sourceColorSpace", types.Token).Set("sRGB")
        image.CreateInput("wrapS", types.Token).Set("repeat")
        image.CreateInput("wrapT", types.Token).Set("repeat")
        image.CreateInput("st", types.Float2).ConnectToSource(reader.CreateOutput("result", types.Float2))
        colour.ConnectToSource(image.CreateOutput("rgb", types.Float3))
    made.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", types.Token))
    return made, material.scale


def _write_png(path: Path, pixels: np.ndarray) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
