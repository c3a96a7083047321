"""What a diffusion transformer of the Cosmos family is made of: one configuration for all of them."""

from dataclasses import asdict, dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class DiTConfig:
    """Sizes and flags. Defaults are Predict2.5-2B Video2World without its conditions.

    Attributes:
        in_channels, out_channels: Latent channels.
        patch, patch_temporal: A token is patch x patch latent pixels of patch_temporal latent frames.
        condition_mask: One channel that says which frames are given.
        padding_mask: One channel that says which pixels are padding.
        extra_channels: Further channels concatenated between the two masks (Plücker rays, the previous latent frame).
        cross_attention: Attend to a text context; nano models that take no text leave it out.
        context_channels: Width of that context.
        context_projection: Input width of the Linear + GELU applied to the context first (Reason1), or None.
        timestep_scale: Multiplies the timestep before its embedding.
        action_dim: Numbers per action; 0 for a network without actions.
        actions_per_latent: Actions that lead from one latent frame to the next, embedded per latent frame.
        action_chunk: Actions of the whole clip flattened into one embedding for all frames (Predict1: 1, Predict2: 12);
            0 for actions per latent frame.
        action_adaln_only: The action reaches the AdaLN part alone: Predict1 loses what it adds to the time embedding,
            though the weights for it are in the file.
        rope_ratio: NTK ratios (t, h, w) of the rotary embedding's base.
        rope_fps: Rotary time positions are scaled by 24 / fps (Predict1).
        absolute_positions: Added at the input of every block: "learnable" and normalised, or "sincos" (Predict1).
        max_positions: Token positions (t, h, w) that learnable absolute positions have.
        max_size: Length of the published buffer `pos_embedder.seq`.
        camera_channels: Numbers per token (Plücker rays of its pixels) projected and added in every block; 0 for none.
        num_views: Views in the tables of view embeddings; 0 for a single-view network. Views follow each other along T.
        view_channels: Width of a view embedding concatenated as channels; 0 for none.
        frame_repeat: That embedding also tells how often a view's first frame is repeated (Predict1 multi-view).
        views_apart: Views see only themselves in self-attention; else it joins all of them.
        view_adaln: The view's embedding modulates every sub-block.
        view_neighbours: Per view, those whose frames of the same time it attends to; empty for no such attention.
        token_vocabulary, token_channels: Discrete tokens, embedded, are the extra channels (diffusion decoder).
    """

    in_channels: int = 16
    out_channels: int = 16
    patch: int = 2
    patch_temporal: int = 1
    condition_mask: bool = True
    padding_mask: bool = True
    extra_channels: int = 0
    model_channels: int = 2048
    num_blocks: int = 28
    num_heads: int = 16
    mlp_ratio: float = 4.0
    adaln_lora_dim: int = 256
    cross_attention: bool = True
    context_channels: int = 1024
    context_projection: int | None = None
    timestep_scale: float = 1.0
    action_dim: int = 0
    actions_per_latent: int = 4
    action_chunk: int = 0
    action_adaln_only: bool = False
    rope_ratio: tuple[float, float, float] = (1.0, 3.0, 3.0)
    rope_fps: bool = False
    absolute_positions: Literal["none", "learnable", "sincos"] = "none"
    max_positions: tuple[int, int, int] = (128, 120, 120)
    max_size: int = 240
    camera_channels: int = 0
    num_views: int = 0
    view_channels: int = 0
    frame_repeat: bool = False
    views_apart: bool = False
    view_adaln: bool = False
    view_neighbours: tuple[tuple[int, ...], ...] = ()
    token_vocabulary: int = 0
    token_channels: int = 0

    def __post_init__(self) -> None:
        """JSON makes lists of tuples; here they become tuples again, at every depth."""
        for name in ("rope_ratio", "max_positions"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        object.__setattr__(self, "view_neighbours", tuple(tuple(v) for v in self.view_neighbours))

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def head_dim(self) -> int:
        return self.model_channels // self.num_heads

    @property
    def patch_volume(self) -> int:
        """Latent pixels in a token."""
        return self.patch_temporal * self.patch**2

    @property
    def patch_inputs(self) -> int:
        """Numbers that are projected to a token."""
        masks = self.condition_mask + self.padding_mask
        conditions = self.extra_channels + self.token_channels + self.view_channels
        return (self.in_channels + masks + conditions) * self.patch_volume

    @property
    def action_inputs(self) -> int:
        """Numbers that are embedded together: of one latent frame, or of the whole clip."""
        return self.action_dim * (self.action_chunk or self.actions_per_latent)
