"""The published autoregressive models (arXiv 2501.03575 section 5.2; Mistral-NeMo for the prompt upsampler).

Video models work on DV8x16x16 tokens of 33 frames at 640 x 1024: a latent of (5, 40, 64), 12,800 tokens. Those with
text (Video2World) begin with <bov>, whose embedding is the first of 64 added ones, and pad the sequence to a multiple
of 64.
"""

from dataclasses import replace

from wfm_sim.models.autoregressive_layers import TransformerConfig, Yarn


def predict1_4b() -> TransformerConfig:
    """Cosmos-Predict1-4B: 4,014,088,192 parameters."""
    return TransformerConfig()


def predict1_12b() -> TransformerConfig:
    """Cosmos-Predict1-12B, stretched by YaRN from 3 to 5 latent frames: 11,560,975,360 parameters."""
    yarn = Yarn(original=(3, 40), scale=2, beta_fast=4, beta_slow=1)
    return replace(predict1_4b(), dim=5120, layers=40, yarn=yarn)


def _video2world(base: TransformerConfig) -> TransformerConfig:
    return replace(base, context_dim=1024, absolute=True, bov=True, embeddings=64_064, max_len=12_864)


def predict1_5b_video2world() -> TransformerConfig:
    """Cosmos-Predict1-5B-Video2World, 4B with T5 cross-attention in every layer: 4,584,845,312 parameters."""
    return _video2world(predict1_4b())


def predict1_13b_video2world() -> TransformerConfig:
    """Cosmos-Predict1-13B-Video2World, likewise of 12B: 13,323,125,760 parameters."""
    return _video2world(predict1_12b())


def prompt_upsampler_12b() -> TransformerConfig:
    """Cosmos-UpsamplePrompt1-12B-Text2World (Mistral-NeMo-12B): 12,247,782,400 parameters.

    Text, 1-D positions; the published weights rotate neighbouring pairs of channels. It runs with up to 1,024 tokens.
    """
    return TransformerConfig(
        dim=5120,
        layers=40,
        vocab=131_072,
        qk_norm=False,
        rope_theta=1_000_000.0,
        rope_interleaved=True,
        latent_shape=None,
        max_len=1024,
    )


# Name -> configuration.
AUTOREGRESSIVE = {
    "predict1-4b": predict1_4b,
    "predict1-5b-video2world": predict1_5b_video2world,
    "predict1-12b": predict1_12b,
    "predict1-13b-video2world": predict1_13b_video2world,
    "prompt-upsampler-12b": prompt_upsampler_12b,
}
