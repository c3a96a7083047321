"""From logits to tokens: temperature, top-k and top-p, seeded per row.

Randomness is one uniform number per row and token, drawn from the row's seed and the token's index alone and put
through the inverse of the distribution function. So a row comes out the same whatever else is in the batch, and a
sequence can be taken up again anywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wfm_sim.errors import UserError
from wfm_sim.models.autoregressive import CausalTransformer, SequenceState


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn.

    Attributes:
        temperature: Logits are divided by it; 0 always takes the likeliest token.
        top_k: Only the k likeliest tokens (and those as likely as the k-th).
        top_p: Only the likeliest tokens up to the one with which their probabilities together pass p.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise UserError(f"sampling: temperature must be 0 or more, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"sampling: top_k must be 1 or more, got {self.top_k}")
        if self.top_p is not None and not 0 <= self.top_p <= 1:
            raise UserError(f"sampling: top_p must be between 0 and 1, got {self.top_p}")


# Half-open range of the tokens that may come next, where the vocabulary holds others too.
Allowed = tuple[int, int] | None


def _restricted(logits: Tensor, allowed: Allowed) -> Tensor:
    """float32 logits, -inf outside the allowed range."""
    if allowed is None:
        return logits.float()
    out = torch.full_like(logits, -torch.inf, dtype=torch.float32)
    out[..., allowed[0] : allowed[1]] = logits[..., allowed[0] : allowed[1]]
    return out


def probabilities(logits: Tensor, sampling: Sampling, allowed: Allowed = None) -> Tensor:
    """[..., V] logits -> float32 [..., V] that the next token is drawn from."""
    logits = _restricted(logits, allowed)
    if sampling.temperature == 0:
        return torch.zeros_like(logits).scatter_(-1, logits.argmax(dim=-1, keepdim=True), 1.0)
    logits = logits / sampling.temperature
    if sampling.top_k is not None:
        kth = logits.topk(min(sampling.top_k, logits.shape[-1]), dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < kth, -torch.inf)
    p = logits.softmax(dim=-1)
    if sampling.top_p is not None:
        descending, order = p.sort(dim=-1, descending=True)
        before = descending.cumsum(dim=-1) - descending  # what the likelier ones have together
        descending = descending.masked_fill(before > sampling.top_p, 0.0)
        p = torch.zeros_like(p).scatter_(-1, order, descending / descending.sum(dim=-1, keepdim=True))
    return p


def uniforms(seeds: Sequence[int], start: int, count: int) -> Tensor:
    """float64 [rows, count] in [0, 1): the numbers of tokens start, start + 1, ... of each row's seed."""
    rows = []
    for seed in seeds:
        words = np.random.SeedSequence(seed & (2**63 - 1)).generate_state(2, np.uint64)
        generator = np.random.Generator(np.random.Philox(key=words).advance(start // 4))  # four numbers per counter
        skipped = start % 4
        raw = generator.bit_generator.random_raw(skipped + count)[skipped:]
        rows.append((raw >> np.uint64(32)).astype(np.float64) / 2.0**32)
    return torch.from_numpy(np.stack(rows))


def greedy(logits: Tensor, allowed: Allowed = None) -> Tensor:
    """[..., V] logits -> int64 [...], the likeliest allowed token."""
    return _restricted(logits, allowed).argmax(dim=-1)


def draw(logits: Tensor, sampling: Sampling, uniform: Tensor, allowed: Allowed = None) -> Tensor:
    """One token per row. logits: [B, V]; uniform: float64 [B] in [0, 1) (unused at temperature 0). int64 [B]."""
    if sampling.temperature == 0:
        return greedy(logits, allowed)
    total = probabilities(logits, sampling, allowed).double().cumsum(dim=-1)
    return torch.searchsorted(total, uniform[:, None] * total[:, -1:], right=True)[:, 0]


@dataclass(frozen=True)
class Generated:
    """tokens: int64 [B, n]; lengths: int64 [B], how many of them are valid, the stop token included.

    What follows a row's stop token repeats it. `state` has read all but the last column.
    """

    tokens: Tensor
    lengths: Tensor
    state: SequenceState


def prefill(
    model: CausalTransformer, prompts: Tensor | Sequence[Tensor], room: int, context: Tensor | None = None
) -> tuple[SequenceState, Tensor]:
    """Read prompts, with room for `room` more tokens; returns the state and each row's last hidden state [B, dim].

    Args:
        prompts: int64 [B, P], or B tensors [P_i] of different lengths (P >= 1).
        context: [B, K, context_dim] as for `CausalTransformer.forward`.

    Raises:
        UserError: an empty prompt, or more tokens than the model can take.
    """
    if isinstance(prompts, Tensor):
        if prompts.ndim != 2 or prompts.shape[1] == 0:
            raise UserError(f"prompt tokens: expected shape [rows, tokens >= 1], got {list(prompts.shape)}")
        state = model.start(len(prompts), context, prompts.shape[1] + room)
        state, hidden = model.advance(state, prompts.to(model.device))
        return state, hidden[:, -1]
    longest = max((len(p) for p in prompts), default=0)
    parts = []
    for i, prompt in enumerate(prompts):
        text = None if context is None else context[i : i + 1]
        parts.append(prefill(model, prompt[None], room + longest - len(prompt), text))
    return SequenceState.cat([s for s, _ in parts]), torch.cat([h for _, h in parts])


@torch.inference_mode()
def generate_tokens(
    model: CausalTransformer,
    prompts: Tensor | Sequence[Tensor],
    count: int,
    *,
    sampling: Sampling,
    seeds: Sequence[int],
    context: Tensor | None = None,
    allowed: Allowed = None,
    stop: Sequence[int] = (),
    first: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Generated:
    """Continue prompts by up to `count` tokens.

    Args:
        prompts: int64 [B, P], or B tensors of different lengths.
        seeds: One per row.
        context: [B, K, context_dim] text embedding, for a model with cross-attention.
        allowed: Half-open range of the tokens that may be drawn.
        stop: Tokens that end a row; generation ends when all rows have ended.
        first: Index, in each row's stream of random numbers, of the first new token (0 unless a rollout goes on).
        progress: Called with (tokens done, count) after each.

    Raises:
        UserError: seeds that do not match the rows, or more tokens than the model can take.
    """
    if len(seeds) != len(prompts):
        raise UserError(f"seeds: expected {len(prompts)}, one per row, got {len(seeds)}")
    if count < 1:
        raise UserError(f"tokens to generate: expected 1 or more, got {count}")
    state, hidden = prefill(model, prompts, count, context)
    uniform = uniforms(seeds, first, count).to(model.device)
    stops = torch.tensor(list(stop), dtype=torch.int64, device=model.device)
    ended = torch.zeros(len(seeds), dtype=torch.bool, device=model.device)
    lengths = torch.zeros(len(seeds), dtype=torch.int64, device=model.device)
    tokens: list[Tensor] = []
    for i in range(count):
        if i:
            state, last = model.advance(state, tokens[-1][:, None])
            hidden = last[:, 0]
        token = draw(model.output(hidden), sampling, uniform[:, i], allowed)
        tokens.append(torch.where(ended, tokens[-1], token) if i else token)
        lengths += ~ended
        if len(stops):
            ended = ended | torch.isin(tokens[-1], stops)
        if progress is not None:
            progress(i + 1, count)
        if len(stops) and bool(ended.all()):
            break
    return Generated(torch.stack(tokens, dim=1), lengths, state)
