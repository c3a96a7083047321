"""Conditions of the diffusion transformer that no other implementation at hand has."""

from dataclasses import replace

import pytest
import torch

from wfm_sim.errors import UserError
from wfm_sim.models.dit import DiT, DiTConfig, block_causal_mask
from wfm_sim.models.kv_cache import KVCache
from wfm_sim.models.parity.case import STREAM_LIMIT, relative_error
from wfm_sim.models.parity.diffusers_dit import randomise

CFG = DiTConfig(
    in_channels=4, out_channels=4, model_channels=64, num_blocks=2, num_heads=2, adaln_lora_dim=8, context_channels=12
)


def _network(**changes: object) -> DiT:
    model = DiT(replace(CFG, **changes)).eval()  # type: ignore[arg-type]
    randomise(model)
    return model


@pytest.mark.parametrize("window", [2, 5])
@torch.no_grad()
def test_frame_by_frame_equals_the_whole_clip(window: int) -> None:
    torch.manual_seed(0)
    b, t, h, w = 2, 5, 4, 6
    model = _network(action_dim=3, actions_per_latent=2)
    x, time, action = torch.randn(b, 4, t, h, w), torch.rand(b, t), torch.randn(b, t - 1, 6)
    text = model.text_keys(torch.randn(b, 3, 12))
    cache = KVCache.empty(layers=2, batch=b, heads=2, head_dim=32, window=window, tokens=6)
    frames = []
    for i in range(t):
        cache = cache.extended()
        step = action[:, i - 1 : i] if i else None
        frames.append(model(x[:, :, i : i + 1], time[:, i : i + 1], context=text, action=step, cache=cache))
    whole = model(x, time, context=text, action=action, attention_mask=block_causal_mask(t, 6, window))
    assert relative_error(torch.cat(frames, dim=2), whole) < STREAM_LIMIT


def test_with_and_without_gradients_the_same_is_computed() -> None:
    torch.manual_seed(0)
    model = _network(absolute_positions="learnable", max_positions=(3, 4, 4), camera_channels=8)
    x, given = torch.randn(2, 4, 3, 4, 6), {"context": torch.randn(2, 5, 12), "camera": torch.randn(2, 3, 6, 8)}
    trained = model(x, torch.rand(2, 3, generator=torch.Generator().manual_seed(1)), **given)
    trained.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    with torch.inference_mode():
        run = model(x, torch.rand(2, 3, generator=torch.Generator().manual_seed(1)), **given)
    assert relative_error(run, trained.detach()) < STREAM_LIMIT


@torch.no_grad()
def test_a_view_depends_on_its_neighbours_alone() -> None:
    torch.manual_seed(0)
    chain = ((1,), (0, 2), (1,))
    model = _network(num_views=3, views_apart=True, view_adaln=True, view_neighbours=chain, num_blocks=1)
    x, text = torch.randn(1, 4, 6, 4, 6), torch.randn(1, 3 * 2, 12)
    changed = x.clone()
    changed[:, :, 4:] += 1  # view 2 of 3, two frames each
    before, after = (model(a, torch.full((1, 1), 0.5), context=text) for a in (x, changed))
    assert torch.equal(before[:, :, :2], after[:, :, :2])
    assert not torch.allclose(before[:, :, 2:4], after[:, :, 2:4])
    # The same views in another order give the same frames in that order.
    order = torch.tensor([2, 0, 1])
    shuffled = x.unflatten(2, (3, 2))[:, :, order].flatten(2, 3)
    texts = text.unflatten(1, (3, 2))[:, order].flatten(1, 2)
    got = model(shuffled, torch.full((1, 1), 0.5), context=texts, views=order)
    assert torch.allclose(got, before.unflatten(2, (3, 2))[:, :, order].flatten(2, 3), atol=1e-4)
    # A view whose neighbours are not in the clip runs without them.
    alone = model(x[:, :, :2], torch.full((1, 1), 0.5), context=text[:, :2], views=torch.tensor([0]))
    assert alone.isfinite().all()


@torch.no_grad()
def test_given_frames_take_no_action() -> None:
    torch.manual_seed(0)
    model = _network(action_dim=3, actions_per_latent=2)
    x, mask = torch.randn(1, 4, 3, 4, 6), torch.zeros(1, 1, 3, 4, 6)
    mask[:, :, :2] = 1
    action = torch.randn(1, 2, 6)
    other = action.clone()
    other[:, 0] += 1  # leads to the second frame, which is given
    given = {"context": torch.randn(1, 2, 12), "condition_mask": mask}
    first, second = (model(x, torch.full((1, 1), 0.5), action=a, **given) for a in (action, other))
    assert torch.equal(first, second)
    assert not torch.allclose(first, model(x, torch.full((1, 1), 0.5), action=-action, **given))


@pytest.mark.parametrize("changes", [{"extra_channels": 6}, {"token_vocabulary": 10, "token_channels": 3}])
def test_a_missing_condition_is_named(changes: dict[str, int]) -> None:
    with pytest.raises(UserError, match="condition"):
        _network(**changes)(torch.randn(1, 4, 2, 4, 6), torch.zeros(1, 1), context=torch.randn(1, 2, 12))


@pytest.mark.parametrize(("takes", "given"), [(True, None), (False, torch.zeros(1, 2, 12))])
def test_text_is_given_to_networks_that_take_it(takes: bool, given: torch.Tensor | None) -> None:
    with pytest.raises(UserError, match="text"):
        _network(cross_attention=takes)(torch.randn(1, 4, 2, 4, 6), torch.zeros(1, 1), context=given)
