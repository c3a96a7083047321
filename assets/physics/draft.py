"""What the author of a scene gives: things, joints and where to look from. `build` adds the world around them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from wfm_sim.assets.physics.framing import Viewpoints
from wfm_sim.assets.physics.look import Paint
from wfm_sim.assets.physics.scene import Body, Joint, SoftBody

GRAVITY = 9.81  # m/s2, everywhere


@dataclass
class Draft:
    """A scene before its floor, walls, lights and cameras.

    `floor`: friction and restitution of the floor (combined as scene.Shape says).
    """

    bodies: list[Body]
    parameters: dict[str, float | int | str]
    joints: list[Joint] = field(default_factory=list)
    soft: list[SoftBody] = field(default_factory=list)
    views: Viewpoints = field(default_factory=Viewpoints)
    floor: tuple[float, float] = (0.5, 1.0)
    integrator: Literal["euler", "rk4"] = "euler"


# (layout's random stream, paint) -> Draft
Author = Callable[[np.random.Generator, Paint], Draft]


def uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A plain float."""
    return float(rng.uniform(low, high))
