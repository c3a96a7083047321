"""Video with the autoregressive models: frames -> tokens -> predicted tokens -> frames (arXiv 2501.03575 section 5.2).

A discrete tokenizer turns 1 + 8 k frames into 1 + k latent frames of tokens, read row by row and frame after frame.
The network is given those of 1 or 9 frames and predicts the rest of its window (33 frames for the published models).
Longer videos go on from their own last frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wfm_sim.errors import UserError
from wfm_sim.models.autoregressive import CausalTransformer
from wfm_sim.models.causal_world import frames_to_tensor, tensor_to_frames
from wfm_sim.models.token_sampling import Sampling, generate_tokens


class DiscreteTokenizer(Protocol):
    """What is asked of a tokenizer: a `Tokenizer` with an FSQ head (DV8x16x16 for the published models), or another."""

    def tokenize(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """float [B, 3, T, H, W] in [-1, 1] -> integer [B, T', h, w] codebook indices, and their codes (unused here)."""
        ...

    def decode_indices(self, indices: Tensor) -> Tensor:
        """Indices [B, T', h, w] -> float [B, 3, T, H, W], about [-1, 1]."""
        ...


@dataclass(frozen=True)
class TokenLayout:
    """How a video lies in a sequence.

    Attributes:
        shape: Latent frames, rows, columns of the window.
        codebook: Video tokens there are.
        offset: Id of the first of them (text tokens may come before).
        bov: The sequence begins with <bov>, whose id follows the video tokens.
    """

    shape: tuple[int, int, int]
    codebook: int
    offset: int = 0
    bov: bool = False

    @classmethod
    def of(cls, model: CausalTransformer) -> TokenLayout:
        """Of a model whose whole vocabulary is video tokens, as in the published ones."""
        if model.cfg.latent_shape is None:
            raise UserError("this is a text model, it predicts no video tokens")
        return cls(model.cfg.latent_shape, model.cfg.vocab, bov=model.cfg.bov)

    @property
    def allowed(self) -> tuple[int, int]:
        return self.offset, self.offset + self.codebook

    def flatten(self, indices: Tensor) -> Tensor:
        """int64 [B, t, h, w] codebook indices -> [B, (<bov>) + t * h * w] tokens."""
        tokens = indices.flatten(1) + self.offset
        if not self.bov:
            return tokens
        return torch.cat((torch.full_like(tokens[:, :1], self.offset + self.codebook), tokens), dim=1)

    def unflatten(self, tokens: Tensor) -> Tensor:
        """[B, (<bov>) + t * h * w] tokens of whole latent frames -> int64 [B, t, h, w] codebook indices."""
        return (tokens[:, int(self.bov) :] - self.offset).unflatten(1, (-1, *self.shape[1:]))


@dataclass(frozen=True)
class TokenVideo:
    """frames: uint8 [B, T, H, W, 3] as decoded, the given ones too; indices: int64 [B, T', h, w] of the window."""

    frames: NDArray[np.uint8]
    indices: Tensor


@torch.inference_mode()
def generate_video(
    model: CausalTransformer,
    tokenizer: DiscreteTokenizer,
    frames: NDArray[np.uint8],
    *,
    sampling: Sampling,
    seeds: Sequence[int],
    context: Tensor | None = None,
    layout: TokenLayout | None = None,
    first: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> TokenVideo:
    """One window of video that begins with the given frames.

    Args:
        frames: uint8 [B, T, H, W, 3]; T is 1 or 9 for the published models (1 + 8 k, fewer than the window).
        sampling, seeds, first, progress: As for `generate_tokens`.
        context: [B, K, context_dim] text embedding, for Video2World models.
        layout: How the video lies in the sequence; by default the model's own.

    Raises:
        UserError: frames of another size than the model's, or so many that nothing is left to predict.
    """
    layout = layout or TokenLayout.of(model)
    given = encode_prompt(tokenizer, frames, layout, model.device)
    count = math.prod(layout.shape) - given[0].numel()
    prompt = layout.flatten(given)
    made = generate_tokens(
        model,
        prompt,
        count,
        sampling=sampling,
        seeds=seeds,
        context=context,
        allowed=layout.allowed,
        first=first,
        progress=progress,
    )
    indices = layout.unflatten(torch.cat((prompt, made.tokens), dim=1))
    return TokenVideo(tensor_to_frames(tokenizer.decode_indices(indices)), indices)


def encode_prompt(
    tokenizer: DiscreteTokenizer, frames: NDArray[np.uint8], layout: TokenLayout, device: torch.device | str = "cpu"
) -> Tensor:
    """uint8 [B, T, H, W, 3] -> int64 [B, t, h, w]; the tokenizer is causal, so later frames would change nothing.

    Raises:
        UserError: as `generate_video`.
    """
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != 5 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise UserError(f"frames: expected uint8 [B, T, H, W, 3], got {frames.dtype} {list(frames.shape)}")
    indices = tokenizer.tokenize(frames_to_tensor(frames).to(device))[0].long()
    if indices.shape[2:] != layout.shape[1:]:
        raise UserError(
            f"frames of {frames.shape[2]} x {frames.shape[3]} pixels become {list(indices.shape[2:])} tokens, "
            f"but the model was made for {list(layout.shape[1:])}"
        )
    if indices.shape[1] >= layout.shape[0]:
        raise UserError(f"{frames.shape[1]} frames fill the model's window; give it fewer (1 or 9)")
    return indices


def generate_long_video(
    model: CausalTransformer,
    tokenizer: DiscreteTokenizer,
    frames: NDArray[np.uint8],
    total: int,
    *,
    sampling: Sampling,
    seeds: Sequence[int],
    prompt_frames: int = 9,
    context: Tensor | None = None,
    layout: TokenLayout | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NDArray[np.uint8]:
    """A video of `total` frames, made window by window: the last frames of each prompt the next.

    Args:
        frames: uint8 [B, T, H, W, 3] to begin with; they stand unchanged at the beginning of the result.
        prompt_frames: Frames handed from a window to the next (1 or 9 for the published models).
        progress: Called with (frames there are, total) after each window.

    Returns:
        uint8 [B, total, H, W, 3].

    Raises:
        UserError: as `generate_video`.
    """
    video, first = np.asarray(frames), 0
    prompt = video
    while video.shape[1] < total:
        made = generate_video(
            model,
            tokenizer,
            prompt,
            sampling=sampling,
            seeds=seeds,
            context=context,
            layout=layout,
            first=first,
        )
        first += made.indices[0].numel()  # the random numbers of a window are not used again
        video = np.concatenate((video, made.frames[:, prompt.shape[1] :]), axis=1)
        prompt = video[:, -prompt_frames:]
        if progress is not None:
            progress(min(video.shape[1], total), total)
    return video[:, :total]
