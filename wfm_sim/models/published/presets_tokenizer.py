"""Configurations of the published wavelet tokenizers (arXiv 2501.03575 section 4), Cosmos-Tokenize1.

C is continuous, D discrete (FSQ), V video, I images; then the compression of time, height and width.
"""

from collections.abc import Callable
from dataclasses import replace

from wfm_sim.models.tokenizer import TokenizerConfig

FSQ_LEVELS = (8, 8, 8, 5, 5, 5)  # 64,000 tokens


def cv8x8x8() -> TokenizerConfig:
    """The tokenizer of Predict1's diffusion models, 720p."""
    return TokenizerConfig()


def cv4x8x8() -> TokenizerConfig:
    return replace(cv8x8x8(), temporal_compression=4, patch_size=2)


def dv8x16x16() -> TokenizerConfig:
    """The tokenizer of Predict1's autoregressive models, 720p."""
    return replace(cv8x8x8(), spatial_compression=16, latent_channels=6, fsq_levels=FSQ_LEVELS)


def dv4x8x8() -> TokenizerConfig:
    return replace(cv4x8x8(), z_channels=256, latent_channels=6, fsq_levels=FSQ_LEVELS)


def ci(compression: int) -> TokenizerConfig:
    """Continuous, images, 8x8 or 16x16."""
    return TokenizerConfig(
        temporal_compression=None, spatial_compression=compression, patch_size=2, num_groups=32, z_channels=16
    )


def di(compression: int) -> TokenizerConfig:
    """Discrete, images, 8x8 or 16x16."""
    return replace(ci(compression), z_channels=256, latent_channels=6, fsq_levels=FSQ_LEVELS)


TOKENIZERS: dict[str, Callable[[], TokenizerConfig]] = {
    "cv8x8x8-720p": cv8x8x8,
    "cv4x8x8-360p": cv4x8x8,
    "dv8x16x16-720p": dv8x16x16,
    "dv4x8x8-360p": dv4x8x8,
    "ci8x8-360p": lambda: ci(8),
    "ci16x16-360p": lambda: ci(16),
    "di8x8-360p": lambda: di(8),
    "di16x16-360p": lambda: di(16),
}
