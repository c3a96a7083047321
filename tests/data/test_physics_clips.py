"""A physics data set as episodes to train on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from wfm_sim.data import open_dataset
from wfm_sim.data.physics import open_physics
from wfm_sim.data.physics_clips import PhysicsClips, places
from wfm_sim.errors import UserError
from wfm_sim.evals.physics.generate import GenerateSettings, generate
from wfm_sim.evals.physics.predictors import SteppedWorld
from wfm_sim.models import load


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("physics") / "data"
    settings = GenerateSettings(("free_fall",), episodes=2, views=2, frames=6, size=(64, 64), seed=5)
    generate(root, settings, 1, lambda done, total: None)
    return root


def test_every_view_is_an_episode_without_actions(root: Path) -> None:
    dataset = open_dataset(root)
    assert isinstance(dataset, PhysicsClips) and len(dataset) == 4
    episode = dataset.get("free_fall/00001/view1")
    truth = open_physics(root).episode("free_fall", 1)
    np.testing.assert_array_equal(episode.frames, truth.frames(1))
    assert episode.fps == 24 and not episode.actions.any()
    objects = np.array(episode.extras["objects"])
    mask = truth.masks(1)[3] == 1
    assert objects.shape == (6, len(truth.names), 3) and objects[3, 0, 2] == mask.sum()
    assert objects[3, 0, 0] == pytest.approx(np.nonzero(mask)[1].mean() + 0.5)


def test_whole_episodes_are_held_out(tmp_path: Path, root: Path) -> None:
    for i in range(45):
        (tmp_path / "free_fall").mkdir(exist_ok=True)
        (tmp_path / "free_fall" / f"{i:05d}").symlink_to(root / "free_fall" / "00000")
    (tmp_path / "manifest.json").write_bytes((root / "manifest.json").read_bytes())
    train, val = (open_dataset(tmp_path, split).ids for split in ("train", "val"))
    assert (
        len(val) == 2
        and len(train) == 88
        and not {i.rpartition("/")[0] for i in train} & {i.rpartition("/")[0] for i in val}
    )
    with pytest.raises(UserError, match="did you mean 'train'"):
        open_dataset(tmp_path, "trian")


def test_an_object_out_of_sight_has_no_place() -> None:
    masks = np.zeros((2, 8, 8), np.uint8)
    masks[0, 2:4, 4:6] = 2
    assert places(masks, 2).tolist() == [[[-1, -1, 0], [5, 3, 4]], [[-1, -1, 0], [-1, -1, 0]]]


def test_a_simulator_predicts_when_nobody_acts() -> None:
    predictor = SteppedWorld(load("nano-tabletop"))
    context = np.random.default_rng(0).integers(0, 255, (2, 9, 64, 64, 3), dtype=np.uint8)
    future = predictor.predict(context, 3, seed=1)
    assert future.shape == (2, 3, 64, 64, 3) and future.dtype == np.uint8
    np.testing.assert_array_equal(future, predictor.predict(context, 3, seed=1))
