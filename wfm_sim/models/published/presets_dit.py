"""Configurations of the published diffusion transformers.

Predict1: arXiv 2501.03575 tables 10 and 11; Predict2.5: arXiv 2511.00062 table 3 (the 2B network has 28 blocks, not
the 32 printed there). `DITS` has them by the name of the checkpoint they fit.
"""

from collections.abc import Callable
from dataclasses import replace

from wfm_sim.models.dit_config import DiTConfig

REASON1 = 100_352  # 28 hidden layers of Cosmos-Reason1-7B, 3,584 wide each
PLUCKER_TOKEN = 16 * 16 * 6  # rays of the 16 x 16 pixels of a token

# Cameras of the driving networks, and which of them see neighbouring directions.
AUTO_VIEWS = ("front wide", "cross right", "rear right", "rear tele", "rear left", "cross left", "front tele")
AUTO_NEIGHBOURS = ((5, 1, 6), (0, 2), (1, 3), (4, 2), (5, 3), (0, 4), (0,))


def predict1_7b() -> DiTConfig:
    """Text2World-7B: 720p, 121 frames, EDM."""
    return DiTConfig(
        condition_mask=False,
        model_channels=4096,
        num_blocks=28,
        num_heads=32,
        rope_ratio=(2.0, 1.0, 1.0),
        rope_fps=True,
        absolute_positions="learnable",
        max_size=128,
    )


def predict1_14b() -> DiTConfig:
    """Text2World-14B."""
    return replace(predict1_7b(), model_channels=5120, num_blocks=36, num_heads=40, rope_ratio=(2.0, 2.0, 2.0))


def predict1_7b_video() -> DiTConfig:
    """Video2World-7B: one channel says which frames are given."""
    return replace(predict1_7b(), condition_mask=True)


def predict1_14b_video() -> DiTConfig:
    """Video2World-14B."""
    return replace(predict1_14b(), condition_mask=True)


def predict1_7b_multiview() -> DiTConfig:
    """Text2World-7B-Sample-AV-Multiview: six cameras of a car."""
    return replace(
        predict1_7b(),
        rope_ratio=(1.0, 1.0, 1.0),
        absolute_positions="sincos",
        num_views=6,
        view_channels=6,
        frame_repeat=True,
    )


def predict1_7b_multiview_video() -> DiTConfig:
    """Video2World-7B-Sample-AV-Multiview."""
    return replace(predict1_7b_multiview(), condition_mask=True)


def predict1_7b_action() -> DiTConfig:
    """Video2World-7B post-trained on Bridge: the next frame, from one frame and one action."""
    return replace(predict1_7b_video(), action_dim=7, action_chunk=1, action_adaln_only=True)


def predict1_7b_camera() -> DiTConfig:
    """Camera control, section 6.1: the rays (d, c x d) of every latent pixel as six channels. No file was released."""
    return replace(predict1_7b_video(), extra_channels=6)


def predict1_7b_decoder() -> DiTConfig:
    """Decoder-DV8x16x16ToCV8x8x8: from the tokens of the autoregressive models to continuous latents."""
    return replace(predict1_7b(), rope_ratio=(1.0, 1.5, 1.5), token_vocabulary=64_000, token_channels=32)


def predict2_2b() -> DiTConfig:
    """Predict2-2B Video2World: T5 text, rectified flow in EDM's terms."""
    return DiTConfig(max_size=128)


def predict2_14b() -> DiTConfig:
    """Predict2-14B Video2World: state_t 20 of 24."""
    return replace(predict2_2b(), model_channels=5120, num_blocks=36, num_heads=40, rope_ratio=(20 / 24, 2.0, 2.0))


def predict2_image(size: str) -> DiTConfig:
    """Predict2 Text2Image, `size` "0.6b", "2b" or "14b": no frames are given, so there is no mask of them."""
    base = {
        "0.6b": replace(predict2_2b(), model_channels=1280, num_blocks=20, num_heads=20),
        "2b": predict2_2b(),
        "14b": predict2_14b(),
    }[size]
    return replace(base, condition_mask=False, rope_ratio=(1.0, 4.0, 4.0))


def predict2_2b_action() -> DiTConfig:
    """Predict2-2B-Sample-Action-Conditioned: 13 frames at 4 Hz, its 12 actions embedded together."""
    return replace(predict2_2b(), action_dim=7, action_chunk=12)


def predict25_2b() -> DiTConfig:
    """Predict2.5-2B, pre- and post-trained; flow times 0..1000."""
    return replace(predict2_2b(), context_projection=REASON1, timestep_scale=0.001)


def predict25_14b() -> DiTConfig:
    """Predict2.5-14B."""
    wide = replace(predict25_2b(), model_channels=5120, num_blocks=36, num_heads=40)
    return replace(wide, rope_ratio=(1.0, 3.0, 3.0))


def predict25_2b_distilled() -> DiTConfig:
    """Predict2.5-2B distilled to four steps (DMD2): TrigFlow, which gives its time as it is."""
    return replace(predict25_2b(), timestep_scale=1.0)


def predict25_2b_action() -> DiTConfig:
    """Predict2.5-2B robot/action-cond (Bridge): four actions lead to each latent frame."""
    return replace(predict25_2b(), action_dim=7, actions_per_latent=4)


def predict25_2b_interactive(action_dim: int = 7) -> DiTConfig:
    """The same, distilled to run frame by frame with a cache; TrigFlow times. GR1 has 29 numbers per action, G1 43."""
    return replace(predict25_2b_action(), action_dim=action_dim, timestep_scale=1.0)


def predict25_2b_camera() -> DiTConfig:
    """Predict2.5-2B robot/multiview-agibot: rays added in every block; source and target follow each other in time."""
    return replace(predict25_2b(), camera_channels=PLUCKER_TOKEN)


def predict25_2b_multiview() -> DiTConfig:
    """Predict2.5-2B auto/multiview: seven cameras joined by self-attention, 8 latent frames each."""
    return replace(predict25_2b(), rope_ratio=(8 / 24, 3.0, 3.0), num_views=7, view_channels=7)


def predict25_2b_multiview_cross() -> DiTConfig:
    """The same with cameras apart but for attention to their neighbours."""
    apart = replace(predict25_2b_multiview(), view_channels=0, views_apart=True, view_adaln=True)
    return replace(apart, view_neighbours=AUTO_NEIGHBOURS)


DITS: dict[str, Callable[[], DiTConfig]] = {
    "predict1-7b-text2world": predict1_7b,
    "predict1-14b-text2world": predict1_14b,
    "predict1-7b-video2world": predict1_7b_video,
    "predict1-14b-video2world": predict1_14b_video,
    "predict1-7b-text2world-multiview": predict1_7b_multiview,
    "predict1-7b-video2world-multiview": predict1_7b_multiview_video,
    "predict1-7b-action": predict1_7b_action,
    "predict1-7b-camera": predict1_7b_camera,
    "predict1-7b-decoder": predict1_7b_decoder,
    "predict2-2b-video2world": predict2_2b,
    "predict2-14b-video2world": predict2_14b,
    "predict2-0.6b-text2image": lambda: predict2_image("0.6b"),
    "predict2-2b-text2image": lambda: predict2_image("2b"),
    "predict2-14b-text2image": lambda: predict2_image("14b"),
    "predict2-2b-action": predict2_2b_action,
    "predict2.5-2b": predict25_2b,
    "predict2.5-14b": predict25_14b,
    "predict2.5-2b-distilled": predict25_2b_distilled,
    "predict2.5-2b-action": predict25_2b_action,
    "predict2.5-2b-action-interactive": predict25_2b_interactive,
    "predict2.5-2b-action-interactive-gr1": lambda: predict25_2b_interactive(29),
    "predict2.5-2b-action-interactive-g1": lambda: predict25_2b_interactive(43),
    "predict2.5-2b-camera": predict25_2b_camera,
    "predict2.5-2b-multiview": predict25_2b_multiview,
    "predict2.5-2b-multiview-cross": predict25_2b_multiview_cross,
}
