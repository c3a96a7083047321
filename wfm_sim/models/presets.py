"""Named configurations. The nano models are the published classes with smaller numbers."""

from dataclasses import replace
from typing import Literal

from wfm_sim.models.camera_config import CameraConfig
from wfm_sim.models.causal_world import WorldConfig
from wfm_sim.models.depth import DepthConfig
from wfm_sim.models.dit import DiTConfig
from wfm_sim.models.tokenizer import TokenizerConfig
from wfm_sim.models.video_world import VideoConfig


def nano_tokenizer() -> TokenizerConfig:
    """CI 4x4: Haar patches of 4 pixels, convolutions at a quarter of the resolution, 8 latent channels."""
    return TokenizerConfig(
        temporal_compression=None,
        spatial_compression=4,
        patch_size=4,
        channels=64,
        channels_mult=(1,),
        num_res_blocks=1,
        z_channels=16,
        latent_channels=8,
        num_groups=32,
        attn_resolutions=(),
        resolution=64,
    )


def nano_dit(channels: int = 256, blocks: int = 6, heads: int = 4) -> DiTConfig:
    """The action-conditioned Predict2.5 DiT, small, without text.

    The previous and the given latent frame come as extra channels, and the dead-reckoned gripper pose with the action.
    """
    tok = nano_tokenizer()
    return DiTConfig(
        in_channels=tok.latent_channels,
        out_channels=tok.latent_channels,
        padding_mask=False,
        extra_channels=2 * tok.latent_channels,
        model_channels=channels,
        num_blocks=blocks,
        num_heads=heads,
        adaln_lora_dim=64,
        cross_attention=False,
        action_dim=13,
        actions_per_latent=1,
        rope_ratio=(1.0, 1.0, 1.0),
        timestep_scale=1000.0,
        max_size=64,
    )


def nano_tabletop() -> WorldConfig:
    """The shipped simulator of `wfm_sim/Tabletop-v0`: 64x64 pixels at 5 Hz, one action per frame."""
    return WorldConfig(
        name="nano-tabletop",
        frame_size=(64, 64),
        tokenizer=nano_tokenizer(),
        dit=nano_dit(),
        window=8,
        anchor=True,
        odometry=True,
    )


def nano_rooms(
    name: str = "nano-rooms", memory: bool = True, rays: Literal["concat", "block"] = "concat"
) -> WorldConfig:
    """The simulator of `wfm_sim/CameraWorld-v0`: 96x128 pixels at 10 frames per second, one camera motion per frame.

    A token is 16x16 pixels. With `memory`, it keeps what it saw as points in space (about three frames' worth).
    """
    # Textured rooms need twice the latent channels of the tabletop; what they cost is a wider first and last layer.
    tok, patch, size = replace(nano_tokenizer(), latent_channels=16), 4, (96, 128)
    c = tok.latent_channels
    camera = CameraConfig(rays)
    if memory:
        camera = replace(camera, points=3 * size[0] * size[1], gate=True, depth=DepthConfig())
    dit = replace(
        nano_dit(),
        in_channels=c,
        out_channels=c,
        patch=patch,
        action_dim=0,
        extra_channels=(c + 1 if memory else 0) + 2 * c + (6 if rays == "concat" else 0),
        camera_channels=6 * patch**2 if rays == "block" else 0,
    )
    return WorldConfig(
        name=name, frame_size=size, tokenizer=tok, dit=dit, fps=10.0, window=8, anchor=True, camera=camera
    )


def nano_rigid(name: str = "nano-rigid", channels: int = 256, blocks: int = 6) -> VideoConfig:
    """A Video2World model of whole clips for the physics benchmark: 36 frames of 64x64 pixels from 1 or 9.

    It was tried and is not what ships as nano-rigid, which goes frame by frame (docs/training.md).

    A token is 8x8 pixels of 4 frames. The newest given frame comes as extra channels. "nano-rigid-small" has 128
    channels and 4 blocks.
    """
    tok = nano_tokenizer()
    dit = DiTConfig(
        in_channels=tok.latent_channels,
        out_channels=tok.latent_channels,
        patch_temporal=4,
        padding_mask=False,
        extra_channels=tok.latent_channels,
        model_channels=channels,
        num_blocks=blocks,
        num_heads=channels // 64,
        adaln_lora_dim=64,
        cross_attention=False,
        rope_ratio=(1.0, 1.0, 1.0),
        timestep_scale=1000.0,
        max_size=64,
    )
    return VideoConfig(name=name, frames=36, frame_size=(64, 64), fps=24.0, tokenizer=tok, dit=dit)
