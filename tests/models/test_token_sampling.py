"""Drawing tokens: the distribution, seeds, and the loop that continues prompts."""

import pytest
import torch

from tests.models.tiny_transformer import BASE, TEXT, VARIANTS, given, make
from wfm_sim.errors import UserError
from wfm_sim.models.token_sampling import Sampling, draw, generate_tokens, greedy, probabilities, uniforms

LOGITS = torch.tensor([2.0, 1.0, 0.0, -1.0, 0.5]).log_softmax(dim=-1)
P = LOGITS.exp()  # 0.563, 0.207, 0.076, 0.028, 0.126


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        (Sampling(), [0, 1, 2, 3, 4]),
        (Sampling(top_k=1), [0]),
        (Sampling(top_k=3), [0, 1, 4]),
        (Sampling(top_k=99), [0, 1, 2, 3, 4]),
        (Sampling(top_p=0.0), [0]),
        (Sampling(top_p=0.75), [0, 1]),
        (Sampling(top_p=0.95), [0, 1, 2, 4]),
        (Sampling(top_p=1.0), [0, 1, 2, 3, 4]),
        (Sampling(top_p=0.8), [0, 1, 4]),
        (Sampling(top_k=3, top_p=0.8), [0, 1]),  # of what top-k leaves
        (Sampling(temperature=0), [0]),
        (Sampling(temperature=2.0, top_p=0.75), [0, 1, 4]),
    ],
)
def test_what_can_be_drawn(sampling: Sampling, kept: list[int]) -> None:
    expected = (LOGITS / (sampling.temperature or 1)).exp()
    expected = torch.zeros(5).index_put_((torch.tensor(kept),), expected[kept] / expected[kept].sum())
    assert torch.allclose(probabilities(LOGITS.expand(3, 2, -1), sampling), expected.expand(3, 2, -1))


def test_top_k_keeps_all_that_are_as_likely_as_the_last() -> None:
    p = probabilities(torch.tensor([1.0, 2.0, 1.0, 0.0]), Sampling(top_k=2))
    assert p.nonzero()[:, 0].tolist() == [0, 1, 2]


def test_only_allowed_tokens_are_drawn() -> None:
    p = probabilities(LOGITS, Sampling(), allowed=(2, 5))
    assert torch.allclose(p, torch.cat((torch.zeros(2), P[2:] / P[2:].sum())))
    assert greedy(LOGITS, allowed=(2, 5)) == 4 and greedy(LOGITS, allowed=(2, 4)) == 2


def test_frequencies_follow_the_probabilities() -> None:
    u = uniforms([7], 0, 20_000)[0]
    tokens = draw(LOGITS.expand(20_000, -1), Sampling(0.7), u)
    frequency = tokens.bincount(minlength=5) / 20_000
    p = probabilities(LOGITS, Sampling(0.7))
    assert ((frequency - p).abs() < 4 * (p * (1 - p) / 20_000).sqrt()).all()  # four standard errors


def test_no_token_of_probability_zero_at_the_ends_of_the_range() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]] * 2)
    ends = torch.tensor([0.0, 1 - 2.0**-32], dtype=torch.float64)
    assert draw(logits, Sampling(), ends).tolist() == [1, 3]


def test_numbers_depend_on_seed_and_index_alone() -> None:
    whole = uniforms([3, 4, -1], 0, 11)
    for start in range(10):
        assert torch.equal(uniforms([4], start, 11 - start), whole[1:2, start:])
    assert len(set(whole.flatten().tolist())) == 33 and whole.min() >= 0 and whole.max() < 1


@pytest.mark.parametrize("name", ["video", "video2world", "text"])
def test_a_row_does_not_depend_on_its_neighbours(name: str) -> None:
    model = make(VARIANTS[name])
    tokens, context = given(model.cfg)
    sampling = Sampling(1.5, top_p=0.9)
    together = generate_tokens(model, tokens[:, :5], 12, sampling=sampling, seeds=[1, 2, 3], context=context)
    text = None if context is None else context[1:2]
    alone = generate_tokens(model, tokens[1:2, :5], 12, sampling=sampling, seeds=[2], context=text)
    assert torch.equal(together.tokens[1:2], alone.tokens) and alone.lengths.tolist() == [12]
    other = generate_tokens(model, tokens[1:2, :5], 12, sampling=sampling, seeds=[9], context=text)
    assert not torch.equal(other.tokens, alone.tokens)


def test_prompts_of_different_lengths() -> None:
    model = make(TEXT)
    tokens, _ = given(TEXT)
    prompts = [tokens[0, :3], tokens[1, :9], tokens[2, :5]]
    together = generate_tokens(model, prompts, 8, sampling=Sampling(), seeds=[1, 2, 3])
    for i, prompt in enumerate(prompts):
        alone = generate_tokens(model, prompt[None], 8, sampling=Sampling(), seeds=[i + 1])
        assert torch.equal(together.tokens[i], alone.tokens[0])


def test_greedy_is_the_likeliest_next_token_each_time() -> None:
    model = make(BASE)
    tokens, _ = given(BASE)
    made = generate_tokens(model, tokens[:, :4], 10, sampling=Sampling(0), seeds=[0, 0, 0], allowed=(10, 30)).tokens
    sequence = torch.cat((tokens[:, :4], made), dim=1)
    expected = model(sequence)[:, 3:-1, 10:30].argmax(dim=-1) + 10
    assert torch.equal(made, expected)


def test_going_on_equals_not_having_stopped() -> None:
    model = make(BASE)
    tokens, _ = given(BASE)
    whole = generate_tokens(model, tokens[:, :4], 10, sampling=Sampling(), seeds=[1, 2, 3]).tokens
    prompt = torch.cat((tokens[:, :4], whole[:, :6]), dim=1)
    rest = generate_tokens(model, prompt, 4, sampling=Sampling(), seeds=[1, 2, 3], first=6).tokens
    assert torch.equal(rest, whole[:, 6:])


def test_stop_tokens_end_a_row() -> None:
    model = make(TEXT)
    tokens, _ = given(TEXT)
    free = generate_tokens(model, tokens[:, :4], 20, sampling=Sampling(2.0), seeds=[1, 2, 3])
    stop = {int(free.tokens[0, 4]), int(free.tokens[1, 9])}
    seen: list[tuple[int, int]] = []
    made = generate_tokens(
        model,
        tokens[:, :4],
        20,
        sampling=Sampling(2.0),
        seeds=[1, 2, 3],
        stop=list(stop),
        progress=lambda done, count: seen.append((done, count)),
    )
    for row in range(3):
        length = next((i + 1 for i, t in enumerate(free.tokens[row].tolist()) if t in stop), 20)
        assert made.lengths[row] == length
        assert torch.equal(made.tokens[row, :length], free.tokens[row, :length])
        assert (made.tokens[row, length:] == made.tokens[row, length - 1]).all()
    assert made.lengths[:2].max() < 20  # rows 0 and 1 do stop
    assert seen == [(i + 1, 20) for i in range(int(made.lengths.max()))]


def test_bad_input_is_one_sentence() -> None:
    model = make(BASE)
    tokens, _ = given(BASE)
    for settings in ({"temperature": -1.0}, {"top_k": 0}, {"top_p": 1.1}, {"temperature": float("nan")}):
        with pytest.raises(UserError, match="sampling"):
            Sampling(**settings)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="expected 3, one per row"):
        generate_tokens(model, tokens[:, :2], 2, sampling=Sampling(), seeds=[1])
    with pytest.raises(UserError, match="at most 24"):
        generate_tokens(model, tokens, 1, sampling=Sampling(), seeds=[1, 2, 3])
    with pytest.raises(UserError, match="tokens >= 1"):
        generate_tokens(model, tokens[:, :0], 2, sampling=Sampling(), seeds=[1, 2, 3])
    with pytest.raises(UserError, match="1 or more, got 0"):
        generate_tokens(model, tokens[:, :2], 0, sampling=Sampling(), seeds=[1, 2, 3])
