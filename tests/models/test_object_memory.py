"""The memory of objects: what is drawn where, how it goes with a state, and what it may not depend on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wfm_sim.models import load, save
from wfm_sim.models.causal_world import CausalState, CausalWorldModel
from wfm_sim.models.object_dynamics import ObjectDynamics, ObjectMemory
from wfm_sim.models.object_memory import ObjectConfig
from wfm_sim.models.object_painter import MARKS, ObjectPainter, marked, spots, stamp
from wfm_sim.models.object_reader import ObjectReader
from wfm_sim.models.presets import nano_dit, nano_tabletop
from wfm_sim.training.objects import with_objects

RNG = np.random.default_rng(0)
SMALL = ObjectConfig(
    slots=3, width=16, hidden=32, painter=16, threshold=0.0
)  # at threshold 0 an untrained reader finds something


@pytest.fixture(scope="module")
def plain() -> CausalWorldModel:
    torch.manual_seed(0)
    world = CausalWorldModel(replace(nano_tabletop(), frame_size=(32, 32), dit=nano_dit(48, 2, 2), window=3)).eval()
    for p in world.parameters():
        p.data = p.data + torch.randn_like(p) * 0.02
    return world


@pytest.fixture(scope="module")
def world(plain: CausalWorldModel) -> CausalWorldModel:
    torch.manual_seed(1)
    model = with_objects(plain, SMALL).eval()
    assert model.objects is not None
    model.objects.projection.copy_(torch.tensor([[0.0, 100, 0, 16], [100, 0, 0, -20], [0, 0, 0, 1]]))
    return model


def _frames(batch: int) -> np.ndarray:
    return RNG.integers(0, 256, (batch, 1, 32, 32, 3), dtype=np.uint8)


def _actions(steps: int, batch: int) -> np.ndarray:
    return RNG.uniform(-0.05, 0.05, (steps, batch, 1, 7)).astype(np.float32)


def _memory(batch: int = 1, objects: int = 2) -> ObjectMemory:
    gripper = torch.zeros(batch, 7, dtype=torch.float64)
    gripper[:, :3] = torch.tensor([0.3, 0.0, 0.1])
    position = torch.tensor([[0.30, 0.00, 0.02], [0.25, 0.10, 0.02]])[:objects].expand(batch, -1, -1)
    yaw = torch.tensor([1.0, 0.0]).expand(batch, objects, 2)
    return ObjectMemory.at_rest(gripper, torch.ones(batch, objects), torch.zeros(batch, objects, 2), position, yaw)


def test_without_objects_a_memory_changes_nothing(plain: CausalWorldModel) -> None:
    frames, actions = _frames(2), _actions(1, 2)[0]
    blind = with_objects(plain, replace(SMALL, threshold=1.1)).eval()  # nothing is ever that sure
    _, a = plain.step(plain.start(frames, seeds=[1, 2]), actions)
    state, b = blind.step(blind.start(frames, seeds=[1, 2]), actions)
    assert state.objects is not None and not state.objects.present.any()
    assert np.array_equal(a, b)
    back = with_objects(blind, None)
    assert back.cfg == plain.cfg
    assert all(torch.equal(v, plain.state_dict()[k]) for k, v in back.state_dict().items())


def test_forks_and_regrouping_carry_the_objects(world: CausalWorldModel) -> None:
    actions = _actions(6, 3)
    state = world.start(_frames(3), seeds=[1, 2, 3])
    for a in actions[:3]:
        state, _ = world.step(state, a)
    assert state.objects is not None and state.doubts is not None and state.doubts.shape == (3, 2)
    again = CausalState.cat([state[[2]], state[:2]])[[1, 2, 0]]
    swapped = state.exchanged([1], state[[1]])
    for a in actions[3:]:
        state, frames = world.step(state, a)
        again, same = world.step(again, a)
        swapped, other = world.step(swapped, a)
        assert np.array_equal(frames, same) and np.array_equal(frames, other)
    assert again.objects is not None and torch.equal(state.objects.position, again.objects.position)


def test_a_row_does_not_depend_on_its_neighbours(world: CausalWorldModel) -> None:
    frames, actions = _frames(3), _actions(5, 3)
    together, alone = world.start(frames, seeds=[1, 2, 3]), world.start(frames[1:2], seeds=[2])
    for a in actions:
        together, _ = world.step(together, a)
        alone, _ = world.step(alone, a[1:2])
    assert together.objects is not None and alone.objects is not None
    assert torch.allclose(together.objects.position[1], alone.objects.position[0], atol=1e-6)
    assert torch.allclose(together.latent[1], alone.latent[0], atol=1e-5)


def test_files_keep_the_memory(world: CausalWorldModel, tmp_path: Path) -> None:
    save(world, tmp_path / "m.safetensors", about={})
    other = load(tmp_path / "m.safetensors", dtype=torch.float32)
    assert other.cfg == world.cfg
    frames, actions = _frames(1), _actions(1, 1)[0]
    assert np.array_equal(world.step(world.start(frames), actions)[1], other.step(other.start(frames), actions)[1])


def test_a_spot_is_where_its_object_is() -> None:
    spot = spots(torch.tensor([[13.5, 5.5]]), (8, 8), 4.0, 0.8)[0]
    assert spot.max() == pytest.approx(1.0)
    assert divmod(int(spot.argmax()), 8) == (1, 3)
    x = (spot.sum(0) * torch.arange(8)).sum() / spot.sum()
    assert spots(torch.tensor([[14.5, 5.5]]), (8, 8), 4.0, 0.8)[0].sum(0) @ torch.arange(8.0) / spot.sum() > x


def test_stamps_move_objects_by_fractions_of_a_pixel_and_leave_the_rest() -> None:
    given = torch.zeros(1, 3, 64, 64)
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    given[0, 0] = torch.exp(-((x - 20) ** 2 + (y - 30) ** 2) / 4)  # a soft red dot at (20, 30)
    frames = torch.full((1, 3, 64, 64), 0.1)
    places, origins = torch.tensor([[[40.3, 12.6], [5.0, 5.0]]]), torch.tensor([[[20.0, 30.0], [50.0, 50.0]]])
    out = stamp(frames, given, places, origins, torch.tensor([[1.0, 0.0]]))
    red = out[0, 0] * (torch.hypot(x - 40.3, y - 12.6) < 5)
    assert ((red * x).sum() / red.sum()).item() == pytest.approx(40.3, abs=0.1)
    assert ((red * y).sum() / red.sum()).item() == pytest.approx(12.6, abs=0.1)
    far = torch.hypot(x - 40.3, y - 12.6) > 9
    assert torch.allclose(out[0][:, far], frames[0][:, far], atol=1e-3)  # the absent second one leaves nothing


def test_marks_and_regions_follow_the_objects_that_there_are() -> None:
    places = torch.tensor([[[25.5, 25.5], [3.5, 27.5]]])
    before, origins = places - torch.tensor([8.0, 0.0]), torch.tensor([[[9.5, 9.5], [3.5, 27.5]]])
    marks, regions = marked(places, before, origins, torch.full((1, 2), 0.05), torch.tensor([[1.0, 0.0]]), (8, 8), 4.0)
    assert marks.shape == (1, MARKS, 8, 8) and regions.shape == (1, 2, 8, 8)
    now, height, last, home = (divmod(int(m.argmax()), 8) for m in marks[0])
    assert now == height == (6, 6) and last == (6, 4) and home == (2, 2)
    assert (marks[0, 1] / marks[0, 0])[6, 6] == pytest.approx(0.5)  # 0.05 m, in units of 0.1
    assert marks[0, 0, 6, 0] < 1e-3  # the absent one
    core, reach = regions[0]
    assert core.max() == reach.max() == 1 and core.sum() < reach.sum()
    _, wide = marked(places, before, origins, torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), (64, 64), 4.0)
    assert wide[..., 40:, :].max() < 1e-3  # nothing is painted far from all objects


def test_an_untrained_painter_shows_the_stamp_and_paints_near_objects_alone() -> None:
    torch.manual_seed(0)
    painter = ObjectPainter(8, 16).eval()
    predicted, stamped, previous, anchor = torch.randn(4, 1, 8, 32, 32)
    place = torch.tensor([[[5.5, 5.5]]])
    told = marked(place, place, place, torch.zeros(1, 1), torch.ones(1, 1), (32, 32), 4.0)
    with torch.no_grad():
        out = painter(predicted, stamped, previous, anchor, *told)
        assert (out - stamped)[..., 1, 1].abs().max() < 0.5 * (predicted - stamped)[..., 1, 1].abs().max()
        painter.leave[2].bias += 1.0
        out = painter(predicted, stamped, previous, anchor, *told)
    assert torch.allclose(out[..., 24:, 24:], predicted[..., 24:, 24:], atol=1e-3)
    assert (out - predicted)[..., 2, 2].abs().max() > 0.5


def test_objects_that_are_not_there_have_no_say() -> None:
    torch.manual_seed(0)
    network = ObjectDynamics(32).eval()
    memory = _memory()
    after = memory.gripper + torch.tensor([0.02, 0.01, -0.01, 0, 0, 0.05, 1.0])
    one, _ = network(memory, after)
    doubled = replace(memory, present=torch.tensor([[1.0, 0.0]]))
    alone, _ = network(doubled, after)
    other = replace(doubled, position=memory.position + torch.tensor([[[0.0, 0, 0], [0.05, 0, 0]]]))
    moved, _ = network(other, after)
    assert torch.equal(alone.position[:, 0], moved.position[:, 0])  # what is not there has no say
    assert not torch.equal(one.position[:, 0], alone.position[:, 0])
    assert torch.equal(one.gripper, after) and torch.equal(one.before, memory.gripper)


def test_untouched_objects_do_not_creep() -> None:
    torch.manual_seed(0)
    network = ObjectDynamics(32).eval()
    with torch.no_grad():
        network.leave[-1].bias[5] = -20.0  # sure that nothing moves
        memory = _memory()
        for _ in range(50):
            memory, _ = network(memory, memory.gripper)
    assert torch.equal(memory.position, memory.given)
    assert (memory.doubt > 0).all()


def test_a_reading_has_as_many_slots_as_asked_for() -> None:
    torch.manual_seed(0)
    reader = ObjectReader((32, 32), 16).eval()
    with torch.no_grad():
        read = reader.read(torch.randn(2, 3, 32, 32), 3, threshold=1.0)
        assert read.place.shape == (2, 3, 2) and read.gripper.dtype == torch.float64
        assert read.present.sum() == 0  # nothing is that sure
        assert reader.read(torch.randn(2, 3, 32, 32), 3, threshold=0.0).present.min() == 1
        assert torch.allclose(read.yaw.norm(dim=-1), torch.ones(2, 3))
