"""A scene as plain data: bodies, joints, cameras, lights, materials. The writers turn it into an engine's words.

World frame: right-handed, z up, the floor at z = 0. Metres, kilograms, seconds, radians; quaternions are (w, x, y, z),
of unit length, and turn body axes into world axes. A body's origin is its centre of mass, and its axes are its
principal axes of inertia.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from wfm_sim.errors import UserError

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]
IDENTITY: Quaternion = (1.0, 0.0, 0.0, 0.0)
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Material:
    """How a surface looks: a procedural texture (see textures.py) that blends `rgb` into `rgb2`, each 0..1.

    `scale` is the width in metres of the world that one repetition of the texture covers; `kind` 'plain' has none.
    """

    name: str
    kind: str
    rgb: Vector
    rgb2: Vector
    scale: float = 1.0
    texture_seed: int = 0
    specular: float = 0.1
    reflectance: float = 0.0


@dataclass(frozen=True)
class Shape:
    """A primitive, fixed to a body at `position` and `quaternion` of the body's frame.

    `size` by kind: box (half x, half y, half z); sphere (radius,); cylinder, capsule and cone (radius, half height),
    along their z axis, the capsule's caps not counted, the cone's tip upwards and its origin half way up; plane (half
    x, half y) is drawn so large and collides without end, its normal is z.

    Two surfaces in contact have the larger of their Coulomb coefficients `friction` and the smaller of their
    coefficients of `restitution`, in every engine. A shape that does not collide is only seen.
    """

    kind: Literal["box", "sphere", "cylinder", "capsule", "cone", "plane"]
    size: tuple[float, ...]
    material: str
    position: Vector = (0.0, 0.0, 0.0)
    quaternion: Quaternion = IDENTITY
    friction: float = 0.5
    restitution: float = 0.0
    collides: bool = True


@dataclass(frozen=True)
class Body:
    """A rigid body. `mass` [kg] and `inertia` [kg m2] (principal, about the origin) are 0 for a static one.

    `linear` [m/s] and `angular` [rad/s] are the velocities at the start, in the world's axes.
    """

    name: str
    shapes: tuple[Shape, ...]
    position: Vector
    quaternion: Quaternion = IDENTITY
    mass: float = 0.0
    inertia: Vector = (0.0, 0.0, 0.0)
    linear: Vector = (0.0, 0.0, 0.0)
    angular: Vector = (0.0, 0.0, 0.0)

    @property
    def dynamic(self) -> bool:
        """Whether it moves."""
        return self.mass > 0.0


@dataclass(frozen=True)
class Joint:
    """Ties a dynamic body to the world at `anchor`: a 'hinge' turns about `axis`, a 'slide' moves along it, a 'ball'
    turns freely.

    Anchor and axis are those of the start, in the world frame. `limits`: lowest and highest angle [rad] or shift [m]
    away from the start, None for none. `drive`: a slide's target speed [m/s] and the gain [N s/m] that holds it there.
    """

    name: str
    kind: Literal["hinge", "ball", "slide"]
    body: str
    anchor: Vector
    axis: Vector = (0.0, 0.0, 1.0)
    limits: tuple[float, float] | None = None
    drive: tuple[float, float] | None = None


@dataclass(frozen=True)
class SoftBody:
    """An elastic block of `count` nodes along x, y and z, `spacing` metres apart, centred at `position`.

    `young` [Pa] and `poisson` are its elastic constants, `damping` [s] its stiffness-proportional (Rayleigh) damping.
    """

    name: str
    count: tuple[int, int, int]
    spacing: float
    position: Vector
    quaternion: Quaternion
    mass: float
    young: float
    poisson: float
    damping: float
    friction: float
    material: str


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: it looks along its own -z axis, +y is up in the image (as in MuJoCo, OpenGL and USD).

    `fovy` is the vertical field of view in degrees; pixels are square and the principal point is the image's centre.
    """

    name: str
    position: Vector
    quaternion: Quaternion
    fovy: float

    def intrinsics(self, width: int, height: int) -> NDArray[np.float64]:
        """K, float64 [3, 3], in pixels; the centre of the upper left pixel is at (0.5, 0.5)."""
        focal = 0.5 * height / np.tan(np.deg2rad(self.fovy) / 2)
        return np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])

    def extrinsics(self) -> NDArray[np.float64]:
        """World-to-camera, float64 [4, 4], for OpenCV's axes: x right, y down, z forward."""
        to_world = rotation(self.quaternion).as_matrix() @ np.diag([1.0, -1.0, -1.0])
        out = np.eye(4)
        out[:3, :3] = to_world.T
        out[:3, 3] = -to_world.T @ np.array(self.position)
        return out


@dataclass(frozen=True)
class Light:
    """A sun: parallel light that travels along `direction`; `diffuse` 0..1. `shadow`: whether it casts shadows."""

    name: str
    direction: Vector
    diffuse: Vector
    shadow: bool = True


@dataclass(frozen=True)
class Sky:
    """A vertical gradient from `horizon` to `zenith` (0..1), and the light that comes from everywhere, `ambient`."""

    zenith: Vector
    horizon: Vector
    ambient: Vector


@dataclass(frozen=True)
class Scene:
    """Everything that an engine needs to run and to show an episode.

    `parameters`: what was drawn and the analytic quantities that follow from it, by name; docs/physics.md lists them.
    `integrator`: 'euler' for scenes of contacts; 'rk4' (and finer steps in PhysX) for scenes of smooth fast rotation.
    """

    name: str
    seed: int
    bodies: tuple[Body, ...]
    joints: tuple[Joint, ...]
    cameras: tuple[Camera, ...]
    lights: tuple[Light, ...]
    materials: tuple[Material, ...]
    sky: Sky
    gravity: Vector
    parameters: dict[str, float | int | str]
    integrator: Literal["euler", "rk4"] = "euler"
    soft: tuple[SoftBody, ...] = ()

    @property
    def dynamic(self) -> tuple[Body, ...]:
        """The rigid bodies that move, in the order of their masks."""
        return tuple(body for body in self.bodies if body.dynamic)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all that moves: rigid bodies, then soft ones. Mask value i + 1 is names[i]."""
        return (*(body.name for body in self.dynamic), *(soft.name for soft in self.soft))

    def body(self, name: str) -> Body:
        """The body of that name; KeyError when there is none."""
        for body in self.bodies:
            if body.name == name:
                return body
        raise KeyError(name)


def rotation(quaternion: Quaternion | NDArray[np.float64]) -> Rotation:
    """scipy's Rotation of (w, x, y, z), or of an array [..., 4] of them."""
    return Rotation.from_quat(np.roll(np.asarray(quaternion, dtype=np.float64), -1, axis=-1))


def quaternion(turn: Rotation) -> Quaternion:
    """(w, x, y, z) with w >= 0."""
    x, y, z, w = turn.as_quat(canonical=True)
    return (float(w), float(x), float(y), float(z))


def vector(values: NDArray[np.floating[Any]] | tuple[float, ...] | list[float]) -> Vector:
    """Three plain floats."""
    x, y, z = (float(value) for value in values)
    return (x, y, z)


def scene_to_dict(scene: Scene) -> dict[str, Any]:
    """The scene as JSON-ready dictionaries, lists, strings and numbers; floats survive to the bit."""
    return {"format": "wfm-sim physics scene", "version": FORMAT_VERSION, **dataclasses.asdict(scene)}


def scene_from_dict(content: Mapping[str, Any]) -> Scene:
    """The inverse of `scene_to_dict`, also after a trip through JSON.

    Raises:
        UserError: not a scene, another version, or a field that is missing or unknown.
    """
    if content.get("format") != "wfm-sim physics scene" or content.get("version") != FORMAT_VERSION:
        raise UserError(
            f"expected a 'wfm-sim physics scene' of version {FORMAT_VERSION}, "
            f"found {content.get('format')!r} of version {content.get('version')!r}"
        )
    fields = {key: value for key, value in content.items() if key not in ("format", "version")}
    try:
        bodies = [{**body, "shapes": [_make(Shape, shape) for shape in body["shapes"]]} for body in fields["bodies"]]
        fields |= {
            "bodies": [_make(Body, item) for item in bodies],
            "joints": [_make(Joint, item) for item in fields["joints"]],
            "cameras": [_make(Camera, item) for item in fields["cameras"]],
            "lights": [_make(Light, item) for item in fields["lights"]],
            "materials": [_make(Material, item) for item in fields["materials"]],
            "soft": [_make(SoftBody, item) for item in fields["soft"]],
            "sky": _make(Sky, fields["sky"]),
        }
        scene: Scene = _make(Scene, fields)
    except (TypeError, KeyError, AttributeError) as error:
        raise UserError(f"not a whole physics scene: {error}") from None
    return scene


def _make(kind: type, content: Mapping[str, Any]) -> Any:
    """A dataclass of its fields, with lists turned back into tuples."""
    return kind(**{key: _tuples(value) for key, value in content.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, (list, tuple)) else value
