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
from wfm_sim.training.action_recipe import prepare
from wfm_sim.training.loop import generator_for
from wfm_sim.training.object_data import load_bodies, project
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


def test_a_world_gets_a_memory_and_is_trained_on_with_it(remembering: Path, data: Path, tmp_path: Path) -> None:
    world = load(remembering, dtype=torch.float32)
    assert world.objects is not None
    assert np.abs(world.objects.projection.numpy() / CAMERA[2, 3] - CAMERA)[:, 3].max() < 5
    recipe = replace(action_debug(data, tmp_path / "run"), init=remembering, init_net=True, clip=4, batch=3, untold=0.5)
    recipe = prepare(recipe)
    assert recipe.world.objects == world.cfg.objects
    task = ActionTask(recipe)
    told, marked = [], None
    for step in range(6):
        batch = task._batch(generator_for(0, step, 0))
        assert batch.objects is not None
        marked = batch.objects[:, 8].flatten(1).amax(1)
        told += (marked > 0.3).tolist()
    assert True in told and False in told  # some clips are told nothing
    loss, _ = task.loss(0, generator_for(0, 0, 0), 0)
    loss.backward()
    grown = task.model.x_embedder["proj"][1].weight.grad[:, 100:]
    assert grown is not None and grown.abs().sum() > 0


def test_data_without_objects_trains_a_world_without_the_memory(
    remembering: Path, tiny_episode: Episode, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_episode(tmp_path / "d", "train", "000", tiny_episode)
    recipe = replace(action_debug(tmp_path / "d", tmp_path / "run"), init=remembering, init_net=True, clip=3, batch=2)
    recipe = prepare(recipe)
    assert recipe.world.objects is None
    assert "without the memory of objects" in capsys.readouterr().out
    task = ActionTask(recipe)
    start = with_objects(load(remembering, dtype=torch.float32), None)
    assert torch.equal(task.model.x_embedder["proj"][1].weight, start.net.x_embedder["proj"][1].weight)
    task.loss(0, generator_for(0, 0, 0), 0)
