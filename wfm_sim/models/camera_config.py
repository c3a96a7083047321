"""What a camera-conditioned world model adds to a configuration."""

from dataclasses import dataclass
from typing import Any, Literal

from wfm_sim.models.depth import DepthConfig
from wfm_sim.models.plucker import Order


@dataclass(frozen=True)
class CameraConfig:
    """How a network is told its camera, and what it remembers of a place.

    Attributes:
        rays: Plücker rays at latent resolution, seen from the first frame: "concat" as six channels beside the latent
            (Predict1's camera control), "block" projected and added in every block (Predict2.5's camera network).
        order: Of their six numbers; None for the published one of that network.
        intrinsics: fx, fy, cx, cy in units of the picture's width and height, where a start says nothing else.
        previous: Whether the frame before comes as extra channels (nano models; published networks remember it).
        prompt_tokens: Length of the text that a published network is given, kept with its weights; 0 for none.
        points: Size of the spatial memory (wfm_sim.models.spatial_memory); 0 for a network without one.
        gap: New points are kept once the memory misses this part of a frame.
        gate: The network's say is limited to what the memory does not know. A memory that is corrected again and again
            by a network that is nearly right drifts away in tens of steps; one that is only completed stays.
        depth: The network that places them.
    """

    rays: Literal["concat", "block"] = "concat"
    order: Order | None = None
    intrinsics: tuple[float, ...] = (0.649519, 0.866025, 0.5, 0.5)  # 60 degrees high, 4:3
    previous: bool = True
    prompt_tokens: int = 0
    points: int = 0
    gap: float = 0.02
    gate: bool = False
    depth: DepthConfig | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "intrinsics", tuple(self.intrinsics))

    @property
    def ray_order(self) -> Order:
        """`order`, or the published one."""
        return self.order or ("direction-moment" if self.rays == "concat" else "moment-direction")

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> "CameraConfig":
        """From what JSON made of it."""
        depth = d.get("depth")
        return cls(**{**d, "depth": None if depth is None else DepthConfig(**depth)})
