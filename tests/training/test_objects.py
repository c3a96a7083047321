"""Training of the memory of objects, on drawn scenes whose camera and outcomes are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wfm_sim.actions import apply_action
from wfm_sim.data.bridge import write_episode
from wfm_sim.data.episode import Episode
from wfm_sim.errors import UserError
from wfm_sim.models import load
from wfm_sim.training.action import ActionTask
from wfm_sim.training.action_recipe import encode_all, prepare
from wfm_sim.training.collect import CollectConfig, collect_episode, make_env
from wfm_sim.training.loop import generator_for
from wfm_sim.training.object_data import load_bodies, project
from wfm_sim.training.object_painting import PainterTask, Painting
from wfm_sim.training.object_states import play_states
from wfm_sim.training.objects import DynamicsTask, ReaderTask, clips, started, train_objects, with_objects
from wfm_sim.training.recipes import action_debug, objects_debug

# x of the scene goes down the picture, y to its left; what is nearer (larger x) is larger.
CAMERA = np.array([[10.0, -110.0, 0.0, 30.0], [150.0, 0.0, -40.0, -14.0], [-0.4, 0.0, -0.2, 1.0]])
EPISODES, FRAMES = 12, 9
COLOURS = ((210, 40, 30), (40, 60, 220))


def _episode(i: int) -> Episode:
    """A gripper (a dark square) that carries the first of two blocks along, and never touches the second."""
    rng = np.random.default_rng(i)
    actions = rng.uniform(-0.01, 0.01, (FRAMES - 1, 7)).astype(np.float32)
    actions[:, 3:6], actions[:, 6] = 0, 0
    poses = [np.array([0.3, rng.uniform(-0.05, 0.05), 0.05, 0, 0, 0, 0.0])]
    for action in actions:
        poses.append(apply_action(poses[-1], action))
    gripper = np.stack(poses)
    first = gripper[:, :3] + [0.0, 0.0, -0.01]
    second = np.repeat([[0.22, rng.uniform(-0.1, 0.1), 0.02]], FRAMES, axis=0)
    positions = np.stack((first, second), axis=1)
    places = project(CAMERA, positions)
    pictures = np.full((FRAMES, 64, 64, 3), 150, np.uint8)
    for t in range(FRAMES):
        for k, colour in enumerate(COLOURS):
            x, y = places[t, k].round().astype(int)
            pictures[t, max(0, y - 3) : y + 4, max(0, x - 3) : x + 4] = colour
    return Episode(
        frames=pictures,
        actions=actions,
        states=gripper.astype(np.float32),
        instruction="",
        fps=5.0,
        id=f"{i:03d}",
        extras={
            "agent_pos": gripper,
            "object_positions": positions,
            "object_yaws": np.full((FRAMES, 2), 0.1),
            "objects": np.concatenate((places, np.full((FRAMES, 2, 1), 49.0)), axis=-1),
        },
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    for i in range(EPISODES):
        write_episode(root, "train", f"{i:03d}", _episode(i))
    return root


@pytest.fixture(scope="module")
def remembering(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = objects_debug(data, tmp_path_factory.mktemp("objects") / "run")
    return train_objects(recipe)


def test_the_camera_is_found_from_what_is_seen(data: Path, tmp_path: Path) -> None:
    bodies = load_bodies(data, (64, 64), tmp_path)
    points = np.array([[0.25, 0.05, 0.02], [0.35, -0.08, 0.05]])
    assert np.abs(project(bodies.projection, points) - project(CAMERA, points)).max() < 0.5
    seen = np.asarray(bodies.frames.objects)[..., :2]
    assert np.abs(bodies.place - seen).max() < 0.3
    again = load_bodies(data, (64, 64), tmp_path)  # from the cache
    assert np.array_equal(again.position, bodies.position)


def test_other_data_is_refused_by_name(data: Path, tmp_path: Path) -> None:
    episode = _episode(0)
    del episode.extras["object_yaws"]
    write_episode(tmp_path / "d", "train", "000", episode)
    with pytest.raises(UserError, match="object_yaws"):
        load_bodies(tmp_path / "d", (64, 64), tmp_path / "cache")


def test_mirrored_clips_are_mirrored_whole(data: Path, tmp_path: Path) -> None:
    bodies = load_bodies(data, (64, 64), tmp_path)
    first = np.zeros(40, np.int64)
    plain = clips(bodies, first[:1], 4)
    gripper, position, yaw, present = clips(bodies, first, 4, torch.Generator().manual_seed(0))
    turned = torch.isclose(position[:, 0, 1, 1], -plain[1][0, 0, 1, 1])
    assert 5 < turned.sum() < 35
    i = int(turned.nonzero()[0])
    assert torch.allclose(gripper[i, :, 1], -plain[0][0, :, 1]) and torch.allclose(gripper[i, :, 0], plain[0][0, :, 0])
    assert torch.allclose(yaw[i, ..., 1], -plain[2][0, ..., 1]) and torch.equal(present[i], plain[3][0])


def test_noisy_starts_share_the_grippers_error(data: Path, tmp_path: Path) -> None:
    bodies = load_bodies(data, (64, 64), tmp_path)
    gripper, position, yaw, present = clips(bodies, np.zeros(400, np.int64), 1)
    memory = started(gripper[:, 0], position[:, 0], yaw[:, 0], present, torch.Generator().manual_seed(0))
    way = memory.position[:, 0] - memory.gripper[:, :3].float()
    true = position[:, 0, 0] - gripper[:, 0, :3].float()
    assert (way - true).std() < (memory.position[:, 0] - position[:, 0, 0]).std()
    exact = started(gripper[:, 0], position[:, 0], yaw[:, 0], present, None)
    assert torch.equal(exact.position, position[:, 0])


def test_reader_and_dynamics_learn(data: Path, tmp_path: Path) -> None:
    recipe = replace(objects_debug(data, tmp_path / "run"), reader_batch=16, dynamics_batch=32)
    for kind, metric in ((ReaderTask, "seen_mm"), (DynamicsTask, "away_mm")):
        torch.manual_seed(0)
        task = kind(recipe, 0)
        optimiser = torch.optim.AdamW(task.model.parameters(), lr=3e-3)
        history = []
        for step in range(60):
            loss, metrics = task.loss(step, generator_for(0, step, 0), 0)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            history.append(metrics[metric])
        assert np.mean(history[-5:]) < 0.7 * np.mean(history[:3]), (kind, history)


def test_a_world_gets_a_memory(remembering: Path, data: Path, tmp_path: Path) -> None:
    world = load(remembering, dtype=torch.float32)
    assert world.objects is not None
    bodies = load_bodies(data, (64, 64), tmp_path)
    assert np.allclose(world.objects.projection.numpy(), bodies.projection, rtol=1e-4)
    frames = np.array(bodies.frames.frames[:1])[None]
    state, imagined = world.step(world.start(frames), np.zeros((1, 1, 7), np.float32))
    assert imagined.shape == (1, 1, 64, 64, 3) and state.doubts is not None


def test_the_painter_learns_along_its_own_rollouts(data: Path, tmp_path: Path) -> None:
    world = load("nano-tabletop", dtype=torch.float32)
    world = with_objects(world, None)
    bodies = load_bodies(data, (64, 64), tmp_path)
    latents = encode_all(world, bodies.frames)
    torch.manual_seed(0)
    task = PainterTask(world, bodies, bodies, latents, Painting(groups=2, rows=6, steps=6, again=6), 32)
    optimiser = torch.optim.AdamW(task.model.parameters(), lr=3e-3)
    ages, gains = [], []
    for step in range(36):
        loss, metrics = task.loss(step, generator_for(0, step, 0), 0)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        ages.append(metrics["age"])
        gains.append(metrics["after"] / metrics["before"])
    assert ages[:12] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5] and ages[12] == 0
    assert np.mean(gains[-12:]) < np.mean(gains[:12]) - 0.03
    assert not task.world.training and all(p.grad is None for p in task.world.parameters())


def test_episodes_without_frames_are_those_that_collect_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wfm_sim.training.object_states.GROUP", 2)
    states = play_states(tmp_path, 2, seed=5)
    config = CollectConfig(seed=5)
    seen = collect_episode(make_env(config), config, 1).extras
    begin, end = states.offsets[1:3]
    assert np.allclose(states.gripper[begin:end], seen["agent_pos"])
    blocks = seen["object_positions"].shape[1]
    assert np.allclose(states.position[begin:end, :blocks], seen["object_positions"], atol=1e-6)
    assert np.isnan(states.position[begin:end, blocks:]).all()


def test_post_training_leaves_the_memory_out(remembering: Path, data: Path, tmp_path: Path) -> None:
    recipe = replace(action_debug(data, tmp_path / "run"), init=remembering, init_net=True, clip=3, batch=2)
    recipe = prepare(recipe)
    assert recipe.world.objects is None
    ActionTask(recipe).loss(0, generator_for(0, 0, 0), 0)


def test_checkpoints_between_cycles_are_refused(data: Path, tmp_path: Path) -> None:
    recipe = objects_debug(data, tmp_path / "run")
    with pytest.raises(UserError, match="multiples of 3"):
        train_objects(replace(recipe, painter=replace(recipe.painter, checkpoint_every=4)))
