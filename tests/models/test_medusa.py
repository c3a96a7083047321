"""Medusa: the tokens of greedy decoding, in fewer passes the better the heads are."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.models.tiny_transformer import VARIANTS, given, make
from wfm_sim.errors import UserError
from wfm_sim.models.autoregressive import CausalTransformer
from wfm_sim.models.medusa import MedusaHeads, generate_with_medusa, medusa_loss
from wfm_sim.models.token_sampling import Sampling, generate_tokens

COUNT = 18


def oracle_heads(
    model: CausalTransformer, sequence: Tensor, heads: int, right: Callable[[int, int], bool]
) -> Callable[[Tensor], Tensor]:
    """Heads that know the sequence [B, S]: where `right(position, head)`, the true token, elsewhere another one."""
    _, hidden = model.advance(model.start(len(sequence)), sequence)

    def guess(h: Tensor) -> Tensor:
        out = torch.zeros(heads, len(h), model.cfg.vocab)
        for row in range(len(h)):
            position = int((hidden[row] - h[row]).abs().sum(dim=-1).argmin())  # which token this hidden state is of
            for k in range(heads):
                token = int(sequence[row, min(position + 2 + k, sequence.shape[1] - 1)])
                out[k, row, token if right(position, k) else (token + 1) % model.cfg.vocab] = 1
        return out

    return guess


def plain(model: CausalTransformer, prompt: Tensor, context: Tensor | None = None, **more: object) -> Tensor:
    seeds = [0] * len(prompt)
    return generate_tokens(model, prompt, COUNT, sampling=Sampling(0), seeds=seeds, context=context, **more).tokens


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("heads", [1, 3, 9])
def test_perfect_heads_save_passes_and_change_nothing(rows: int, heads: int) -> None:
    model = make(VARIANTS["video"])
    prompt = given(model.cfg, rows)[0][:, :5]
    expected = plain(model, prompt)
    sequence = torch.cat((prompt, expected), dim=1)
    made = generate_with_medusa(model, oracle_heads(model, sequence, heads, lambda p, k: True), prompt, COUNT)
    assert torch.equal(made.tokens, expected)
    assert made.passes == 1 + -(-(COUNT - 1) // (heads + 1))  # the prompt, then heads + 1 tokens a pass


@pytest.mark.parametrize("rows", [1, 3])
def test_heads_that_err_cost_passes_and_change_nothing(rows: int) -> None:
    model = make(VARIANTS["video"])
    prompt = given(model.cfg, rows)[0][:, :5]
    expected = plain(model, prompt)
    sequence = torch.cat((prompt, expected), dim=1)
    passes = []
    for right in (lambda p, k: (p + k) % 3 > 0, lambda p, k: k < 1, lambda p, k: False):
        made = generate_with_medusa(model, oracle_heads(model, sequence, 4, right), prompt, COUNT)
        assert torch.equal(made.tokens, expected)
        passes.append(made.passes)
    assert passes[1] == 1 + -(-(COUNT - 1) // 2) and passes[2] == COUNT


@pytest.mark.parametrize("name", ["video2world", "text"])
def test_untrained_heads_are_lossless(name: str) -> None:
    model = make(VARIANTS[name])
    tokens, context = given(model.cfg)
    seen: list[int] = []
    made = generate_with_medusa(
        model,
        MedusaHeads(model, 3),
        tokens[:, :5],
        COUNT,
        context=context,
        allowed=(0, 40),
        progress=lambda done, count: seen.append(done),
    )
    assert torch.equal(made.tokens, plain(model, tokens[:, :5], context, allowed=(0, 40)))
    assert made.passes <= COUNT and seen[-1] == COUNT


def test_untrained_heads_repeat_the_network() -> None:
    model = make(VARIANTS["video"])
    heads = MedusaHeads(model, 9)
    hidden = torch.randn(2, model.cfg.dim, dtype=torch.float64)
    assert torch.equal(heads(hidden), model.output(hidden).expand(9, -1, -1))


def test_loss_compares_each_head_with_its_own_token() -> None:
    model = make(VARIANTS["video"])
    heads, tokens = MedusaHeads(model, 2), given(model.cfg)[0][:, :10]
    _, hidden = model.advance(model.start(3), tokens)
    logits = model.output(hidden).transpose(1, 2)
    expected = 0.8 * F.cross_entropy(logits[..., :8], tokens[:, 2:])
    expected += 0.64 * F.cross_entropy(logits[..., :7], tokens[:, 3:])
    loss = medusa_loss(heads, hidden, tokens)
    assert torch.allclose(loss, expected)
    optimizer = torch.optim.Adam(heads.parameters(), lr=1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        medusa_loss(heads, hidden, tokens).backward()
        optimizer.step()
    assert medusa_loss(heads, hidden, tokens) < 0.7 * loss


def test_nothing_to_generate_is_refused() -> None:
    model = make(VARIANTS["video"])
    with pytest.raises(UserError, match="1 or more, got 0"):
        generate_with_medusa(model, MedusaHeads(model, 2), given(model.cfg)[0][:, :5], 0)
