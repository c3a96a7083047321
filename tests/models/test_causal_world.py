"""The WorldModel contract, on a tiny random model: forks, neighbours, seeds, windows, files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wfm_sim.actions import dead_reckoning
from wfm_sim.errors import UserError
from wfm_sim.models import load, save, shipped_weights
from wfm_sim.models.causal_world import CausalState, CausalWorldModel
from wfm_sim.models.checkpoint import fast_dtype
from wfm_sim.models.presets import nano_dit, nano_tabletop
from wfm_sim.world_model import WorldModel

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module", params=["residual", "velocity"])
def model(request: pytest.FixtureRequest) -> CausalWorldModel:
    torch.manual_seed(0)
    cfg = replace(
        nano_tabletop(),
        frame_size=(32, 32),
        dit=nano_dit(48, 2, 2),
        window=3,
        times=(1.0, 0.5),
        prediction=request.param,
        clean_pass=request.param == "velocity",
    )
    m = CausalWorldModel(cfg).eval()
    for p in m.parameters():  # zero-initialised gates would hide errors
        p.data = p.data + torch.randn_like(p) * 0.02
    return m


def _frames(batch: int, t: int = 1) -> np.ndarray:
    return RNG.integers(0, 256, (batch, t, 32, 32, 3), dtype=np.uint8)


def _actions(steps: int, batch: int) -> np.ndarray:
    return RNG.uniform(-0.05, 0.05, (steps, batch, 1, 7)).astype(np.float32)


def _rollout(m: CausalWorldModel, state: CausalState, actions: np.ndarray) -> tuple[CausalState, list[np.ndarray]]:
    frames = []
    for a in actions:
        state, f = m.step(state, a)
        frames.append(f)
    return state, frames


def test_contract_and_shapes(model: CausalWorldModel) -> None:
    assert isinstance(model, WorldModel)
    state, frames = model.step(model.start(_frames(2, 5), seeds=[1, 2]), _actions(1, 2)[0])
    assert frames.shape == (2, 1, 32, 32, 3) and frames.dtype == np.uint8 and len(state) == 2


def test_step_leaves_its_state_alone_and_fork_replays_bit_identically(model: CausalWorldModel) -> None:
    actions = _actions(9, 2)
    state, _ = _rollout(model, model.start(_frames(2), seeds=[5, 6]), actions[:4])
    kept = state.clone()
    first, a = _rollout(model, state, actions[4:])
    second, b = _rollout(model, state, actions[4:])  # the same state again, after the buffer grew past it
    third, c = _rollout(model, kept, actions[4:])
    assert torch.equal(first.latent, second.latent) and torch.equal(first.latent, third.latent)
    assert all(np.array_equal(x, y) and np.array_equal(x, z) for x, y, z in zip(a, b, c, strict=True))


def test_rows_do_not_depend_on_their_neighbours_or_on_regrouping(model: CausalWorldModel) -> None:
    start, actions = _frames(3), _actions(7, 3)
    together, _ = _rollout(model, model.start(start, seeds=[7, 8, 9]), actions)
    alone, _ = _rollout(model, model.start(start[1:2], seeds=[8]), actions[:, 1:2])
    assert torch.allclose(together.latent[1:2], alone.latent, atol=1e-5)
    # rows of different age in one batch, as after one environment of many was reset
    old, _ = _rollout(model, model.start(start[1:2], seeds=[8]), actions[:5, 1:2])
    young = model.start(start[2:], seeds=[9])
    mixed, _ = _rollout(model, CausalState.cat([old, young]), np.stack([actions[5:, 1], actions[:2, 2]], axis=1))
    young_alone, _ = _rollout(model, young, actions[:2, 2:])
    assert torch.allclose(mixed.latent[0], alone.latent[0], atol=1e-5)
    assert torch.allclose(mixed.latent[1], young_alone.latent[0], atol=1e-5)


def test_with_a_full_window_a_young_row_has_the_same_bits_beside_older_ones(model: CausalWorldModel) -> None:
    start, actions = _frames(3), _actions(9, 3)
    model.full_window = True
    try:
        young = model.start(start[2:], seeds=[9])
        found = []
        for age in (0, 1, 6):
            others, _ = _rollout(model, model.start(start[:2], seeds=[7, 8]), actions[:age, :2])
            state, frames = _rollout(model, CausalState.cat([others, young]), actions)
            found.append((state.latent[2], [f[2] for f in frames]))
    finally:
        model.full_window = False
    plain, _ = _rollout(model, model.start(start[2:], seeds=[9]), actions[:, 2:])
    assert torch.allclose(found[0][0], plain.latent[0], atol=1e-5)  # what is masked out does not count
    for latent, frames in found[1:]:
        assert torch.equal(latent, found[0][0])
        assert all(np.array_equal(a, b) for a, b in zip(frames, found[0][1], strict=True))


@pytest.mark.parametrize("full_window", [False, True])
@pytest.mark.parametrize("age", [0, 2, 7])
def test_exchanging_rows_is_regrouping_to_the_last_bit(model: CausalWorldModel, age: int, full_window: bool) -> None:
    start, actions = _frames(5), _actions(6, 3)
    model.full_window = full_window
    try:
        old, _ = _rollout(
            model, model.start(start[:3], seeds=[1, 2, 3]), actions[:age] if age < 6 else _actions(age, 3)
        )
        kept = old.clone()
        young = model.start(start[3:], seeds=[4, 5])
        direct = old.exchanged([2, 0], young)
        regrouped = CausalState.cat([old[[1]], young])[[2, 0, 1]]
        one, a = _rollout(model, direct, actions)
        two, b = _rollout(model, regrouped, actions)
        left, _ = _rollout(model, old, actions)
        same, _ = _rollout(model, kept, actions)
    finally:
        model.full_window = False
    assert torch.equal(one.latent, two.latent) and torch.equal(one.seeds, two.seeds)
    assert one.seeds.tolist() == [5, 2, 4] and one.clock.tolist() == [6, age + 6, 6]
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert torch.equal(left.latent, same.latent)  # what was exchanged from is left as it was


def test_in_native_bfloat16_a_row_is_the_same_to_the_last_bit_in_any_batch() -> None:
    if fast_dtype() != torch.bfloat16 or "nano-tabletop" not in shipped_weights():
        pytest.skip("no native bfloat16 on this CPU, or no shipped weights")
    m = load("nano-tabletop")
    assert m.dtype == torch.bfloat16
    start = RNG.integers(0, 256, (5, 1, 64, 64, 3), dtype=np.uint8)
    actions = _actions(10, 5)
    together, _ = _rollout(m, m.start(start), actions)
    for rows in ([2], [4, 1, 0]):
        apart, _ = _rollout(m, m.start(start[rows]), actions[:, rows])
        assert torch.equal(apart.latent, together.latent[rows])


def test_the_newest_given_frame_stays_in_sight_and_the_pose_is_reckoned_from_it(model: CausalWorldModel) -> None:
    frames, actions = _frames(2, 3), _actions(6, 2)
    state, _ = _rollout(model, model.start(frames), actions)
    assert torch.allclose(state.anchor, model.encode(frames)[:, :, -1], atol=1e-5)
    assert np.allclose(state.pose, dead_reckoning(actions[:, :, 0].swapaxes(0, 1))[:, -1])
    # both reach the network: another anchor, or another pose, and the next frame is another
    again = model.step_latent(state, actions[0])
    for changed in (replace(state, anchor=-state.anchor), replace(state, pose=state.pose + 0.1)):
        assert not torch.allclose(model.step_latent(changed, actions[0]).latent, again.latent, atol=1e-4)


def test_the_seed_of_a_row_decides_its_noise(model: CausalWorldModel) -> None:
    start, actions = _frames(1), _actions(2, 1)
    a, b, c = (_rollout(model, model.start(start, seeds=[s]), actions)[0].latent for s in (3, 3, 4))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_cache_equals_a_full_pass_with_the_window_as_mask(model: CausalWorldModel) -> None:
    """What the rolling cache computes frame by frame is the block-causal network on the whole clip."""
    from wfm_sim.models.dit import block_causal_mask
    from wfm_sim.models.kv_cache import KVCache

    cfg, net, t = model.cfg.dit, model.net, 6
    x, extra = torch.randn(2, 8, t, 8, 8), torch.randn(2, 16, t, 8, 8)
    times, action = torch.rand(2, t), torch.randn(2, t, 13)
    with torch.no_grad():
        mask = block_causal_mask(t, 16, window=3)
        full = net(x, times, extra=extra, action=action, attention_mask=mask)
        cache = KVCache.empty(layers=2, batch=2, heads=2, head_dim=cfg.model_channels // 2, window=3, tokens=16)
        parts = []
        for i in range(t):
            cache = cache.extended()
            s = slice(i, i + 1)
            parts.append(net(x[:, :, s], times[:, s], extra=extra[:, :, s], action=action[:, s], cache=cache))
    # deeper layers see further back than the window in the masked clip exactly as they do in the cache
    assert torch.allclose(torch.cat(parts, dim=2), full, atol=1e-5)


def test_bad_input_is_one_sentence(model: CausalWorldModel) -> None:
    state = model.start(_frames(1))
    with pytest.raises(UserError, match="finite"):
        model.step(state, np.full((1, 1, 7), np.nan, np.float32))
    with pytest.raises(UserError, match="shape"):
        model.step(state, np.zeros((1, 7), np.float32))
    with pytest.raises(UserError, match="uint8"):
        model.start(np.zeros((1, 1, 16, 16, 3), np.uint8))


def test_file_round_trip_and_damage(model: CausalWorldModel, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save(model, path, about={"seed": 1})
    again = load(path, dtype=torch.float32)
    assert again.metadata == {"seed": 1} and again.cfg == model.cfg
    state, actions = _frames(1), _actions(2, 1)
    a, b = (_rollout(m, m.start(state), actions)[0].latent for m in (model, again))
    assert torch.equal(a, b)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"truncated|safetensors"):
        load(path)
    torch.save({"a": torch.zeros(1)}, tmp_path / "p.pt")
    with pytest.raises(UserError, match="pickle"):
        load(tmp_path / "p.pt")
    with pytest.raises(UserError, match="no world model file"):
        load(tmp_path / "absent.safetensors")
    with pytest.raises(UserError, match="unknown world model"):
        load("no-such-model")
    assert json.dumps(model.cfg.to_dict())
