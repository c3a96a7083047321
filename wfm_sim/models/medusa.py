"""Medusa heads: several tokens ahead from one hidden state, checked by the network itself (arXiv 2401.10774).

Head k reads the hidden state that predicts the next token and guesses the one k + 1 further on: one residual block
x + SiLU(W x) and an unembedding of its own (paper section 2.1.1). Cosmos-Predict1 found 9 heads best (arXiv 2501.03575
table 15). Its Medusa weights and code are not public, so this is the paper's method on our network.

Decoding is greedy along one chain of guesses. It is lossless: a guess is kept only if the network, having read what
comes before it, gives the same token, so the result is that of greedy decoding in fewer passes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wfm_sim.errors import UserError
from wfm_sim.models.autoregressive import CausalTransformer
from wfm_sim.models.token_sampling import Allowed, greedy, prefill


class MedusaHead(nn.Module):
    """One guess: hidden states [..., dim] -> logits [..., V]."""

    def __init__(self, dim: int, vocab: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, dim)
        self.output = nn.Linear(dim, vocab, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.output(hidden + F.silu(self.linear(hidden)))
        return logits


class MedusaHeads(nn.Module):
    """Heads for one network; before training they guess that every later token is the next one.

    The residual block begins at zero and the unembedding as a copy of the network's own (paper section 2.1.1).
    """

    def __init__(self, model: CausalTransformer, heads: int = 9) -> None:
        super().__init__()
        self.heads = nn.ModuleList(MedusaHead(model.cfg.dim, model.cfg.vocab) for _ in range(heads))
        self.to(model.device, model.dtype)
        for head in self.heads:
            assert isinstance(head, MedusaHead)
            nn.init.zeros_(head.linear.weight)
            nn.init.zeros_(head.linear.bias)
            head.output.weight.data.copy_(model.output.weight.data)

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., dim] -> [heads, ..., V]: at s, head k's logits of token s + 2 + k."""
        return torch.stack([head(hidden) for head in self.heads])


def medusa_loss(heads: MedusaHeads, hidden: Tensor, tokens: Tensor, decay: float = 0.8) -> Tensor:
    """Cross-entropy of all heads, head k weighted by decay^(k + 1) (paper equation 1).

    hidden: [B, S, dim] of the network over tokens int64 [B, S]; S must be more than heads + 1.
    """
    total = hidden.new_zeros(())
    for k, head in enumerate(heads.heads):
        logits = head(hidden[:, : -(k + 2)])
        total = total + decay ** (k + 1) * F.cross_entropy(logits.flatten(0, 1), tokens[:, k + 2 :].flatten())
    return total


@dataclass(frozen=True)
class MedusaGenerated:
    """tokens: int64 [B, n]; passes: how often the network was run, the reading of the prompt included."""

    tokens: Tensor
    passes: int


@torch.inference_mode()
def generate_with_medusa(
    model: CausalTransformer,
    heads: Callable[[Tensor], Tensor],
    prompts: Tensor,
    count: int,
    *,
    context: Tensor | None = None,
    allowed: Allowed = None,
    progress: Callable[[int, int], None] | None = None,
) -> MedusaGenerated:
    """Greedy continuation of prompts by `count` tokens: those of `generate_tokens` at temperature 0.

    Args:
        heads: `MedusaHeads`, or anything that gives [heads, B, V] for hidden states [B, dim].
        prompts: int64 [B, P]. Rows go at the pace of the slowest, so one row gains most.
        context, allowed, progress: As for `generate_tokens`.

    Raises:
        UserError: no tokens asked for, or more than the model can take.
    """
    if count < 1:
        raise UserError(f"tokens to generate: expected 1 or more, got {count}")
    state, hidden = prefill(model, prompts, count, context)
    next_token = greedy(model.output(hidden), allowed)  # certain: the network's own
    done, passes = next_token[:, None], 1
    while done.shape[1] < count:
        room = count - done.shape[1]
        guesses = greedy(heads(hidden), allowed)
        chain = torch.cat((done[:, -1:], guesses.T), dim=1)[:, :room]  # what is read: the certain token and guesses
        state, read = model.advance(state, chain)
        answers = greedy(model.output(read), allowed)
        right = (answers[:, :-1] == chain[:, 1:]).long().cumprod(dim=1).sum(dim=1)
        kept = int(right.min())  # guesses that were right in every row; the answer after them is certain too
        done = torch.cat((done, answers[:, : kept + 1]), dim=1)
        hidden = read[:, kept]
        state = replace(state, cache=state.cache.retracted(chain.shape[1] - 1 - kept))
        passes += 1
        if progress is not None:
            progress(done.shape[1], count)
    return MedusaGenerated(done, passes)
