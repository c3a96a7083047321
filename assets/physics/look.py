"""Colours and textures of a scene, drawn from its seed: saturated objects in front of a muted world.

Whoever follows the objects in a video (tracker or model) must be able to tell them from each other and from what is
behind them; so the hues of objects are far apart, and floors, walls, sky and furniture are greyish.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.transform import Rotation

from wfm_sim.assets.physics.scene import Light, Material, Shape, Sky, Vector, quaternion, vector

# Hue [turns], saturation and value of the objects, each a name that a person would use.
PALETTE: dict[str, Vector] = {
    "red": (0.995, 0.92, 0.80),
    "blue": (0.620, 0.88, 0.88),
    "yellow": (0.145, 0.92, 0.98),
    "green": (0.360, 0.85, 0.58),
    "magenta": (0.870, 0.78, 0.88),
    "cyan": (0.510, 0.85, 0.88),
    "orange": (0.070, 0.95, 0.98),
    "purple": (0.750, 0.72, 0.62),
    "lime": (0.240, 0.88, 0.82),
}
OBJECT_TEXTURES = ("plain", "plain", "marble", "stripes", "noise", "checker")
FLOOR_TEXTURES = ("checker", "wood", "tiles", "marble", "noise", "speckle")
WALL_TEXTURES = ("plain", "noise", "stripes", "tiles", "marble")
# Muted base colours of floors and walls: hue, saturation, value.
GROUNDS: tuple[Vector, ...] = (
    (0.09, 0.20, 0.80),
    (0.08, 0.28, 0.66),
    (0.58, 0.10, 0.72),
    (0.30, 0.07, 0.74),
    (0.00, 0.00, 0.62),
    (0.60, 0.12, 0.52),
    (0.11, 0.10, 0.80),
)
WALL_DISTANCE, WALL_HEIGHT = 4.0, 12.0  # metres beyond the furthest camera; tall enough to hide the horizon


@dataclass
class Paint:
    """Hands out materials and keeps them; `rng` is the look's own stream."""

    rng: np.random.Generator
    materials: list[Material] = field(default_factory=list)
    _queue: list[str] = field(default_factory=list)
    _used: dict[str, int] = field(default_factory=dict)

    def thing(self, kind: str | None = None, scale: float = 0.3) -> str:
        """The name of a new material for an object: the hues come in random order, all before any comes again."""
        if not self._queue:
            self._queue = [str(name) for name in self.rng.permutation(list(PALETTE))]
        name = self._queue.pop()
        hue, saturation, value = PALETTE[name]
        hue += float(self.rng.uniform(-0.008, 0.008))
        value *= float(self.rng.uniform(0.95, 1.0))
        # The second tone keeps the hue: a texture, but still one colour for a tracker.
        second = hsv(hue, saturation * 0.92, value * float(self.rng.uniform(0.66, 0.8)))
        count = self._used[name] = self._used.get(name, 0) + 1
        return self._add(
            name if count == 1 else f"{name}{count}",
            kind or str(self.rng.choice(OBJECT_TEXTURES)),
            hsv(hue, saturation, value),
            second,
            scale,
            specular=float(self.rng.uniform(0.1, 0.35)),
        )

    def mark(self) -> str:
        """The name of a white material, for a mark that shows how an object turns."""
        if not any(material.name == "mark" for material in self.materials):
            self._add("mark", "plain", (0.95, 0.95, 0.93), (0.95, 0.95, 0.93), 1.0)
        return "mark"

    def ground(self, name: str, kinds: tuple[str, ...], scale: float, contrast: float = 0.16) -> str:
        """The name of a new muted material, `name` itself."""
        hue, saturation, value = GROUNDS[int(self.rng.integers(len(GROUNDS)))]
        hue += float(self.rng.uniform(-0.02, 0.02))
        value *= float(self.rng.uniform(0.9, 1.05))
        second = hsv(hue, saturation * 1.1, value * (1 - contrast * float(self.rng.uniform(0.6, 1.3))))
        return self._add(
            name, str(self.rng.choice(kinds)), hsv(hue, saturation, value), second, scale * self.rng.uniform(0.8, 1.3)
        )

    def furniture(self, name: str = "furniture", scale: float = 1.0) -> str:
        """The material of ramps, stands and the like: muted as well."""
        return self.ground(name, ("plain", "wood", "noise", "marble"), scale)

    def _add(self, name: str, kind: str, rgb: Vector, rgb2: Vector, scale: float, specular: float = 0.05) -> str:
        self.materials.append(
            Material(name, kind, rgb, rgb2, float(scale), int(self.rng.integers(2**31)), float(specular))
        )
        return name


def hsv(hue: float, saturation: float, value: float) -> Vector:
    """RGB 0..1; the hue wraps, the others are clipped to 0..1."""
    return colorsys.hsv_to_rgb(hue % 1.0, float(np.clip(saturation, 0, 1)), float(np.clip(value, 0, 1)))


def draw_lights(rng: np.random.Generator) -> tuple[tuple[Light, ...], Sky]:
    """One sun, high enough for short shadows, and a sky."""
    azimuth, elevation = rng.uniform(-np.pi, np.pi), np.deg2rad(rng.uniform(50.0, 72.0))
    direction = -np.array([np.cos(azimuth) * np.cos(elevation), np.sin(azimuth) * np.cos(elevation), np.sin(elevation)])
    strength, warmth = rng.uniform(0.5, 0.65), rng.uniform(-0.03, 0.03)
    sun = Light("sun", vector(direction), vector(strength * np.array([1 + warmth, 1.0, 1 - warmth])))
    hue, shade = rng.uniform(0.54, 0.66), rng.uniform(0.8, 1.0)
    sky = Sky(
        zenith=hsv(hue, float(rng.uniform(0.25, 0.45)), 0.75 * shade),
        horizon=hsv(hue, float(rng.uniform(0.02, 0.12)), 0.95 * shade),
        ambient=(float(rng.uniform(0.42, 0.52)),) * 3,
    )
    return (sun,), sky


def draw_walls(rng: np.random.Generator, paint: Paint, reach: float) -> tuple[Shape, ...]:
    """No wall (the sky is seen), or four around everything within `reach` metres of the origin: seen, not felt."""
    if rng.uniform() < 0.4:
        return ()
    material = paint.ground("wall", WALL_TEXTURES, 2.5, contrast=0.1)
    distance, half = reach + WALL_DISTANCE, WALL_HEIGHT / 2
    shapes = []
    for turn in range(4):
        # A plane's normal is its z axis: here it points inwards. Its y axis is up. Planes cast no shadow.
        x, y = np.cos(turn * np.pi / 2), np.sin(turn * np.pi / 2)
        facing = Rotation.from_matrix(np.array([[y, 0.0, -x], [-x, 0.0, -y], [0.0, 1.0, 0.0]]))
        place = vector([distance * x, distance * y, half])
        shapes.append(Shape("plane", (distance, half), material, place, quaternion(facing), collides=False))
    return tuple(shapes)
