"""The Bridge/IRASim layout: written exactly, read tolerantly, faults told with file and field."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wfm_sim.actions import actions_from_states
from wfm_sim.data import load_frames, open_dataset, write_episode
from wfm_sim.data.bridge import BridgeDataset
from wfm_sim.data.episode import Episode
from wfm_sim.data.files import atomic_path, remove_partial_files
from wfm_sim.errors import UserError


@pytest.fixture
def dataset_root(tiny_episode: Episode, tmp_path: Path) -> Path:
    for number in range(3):
        write_episode(tmp_path, "train", f"{number:06d}", tiny_episode)
    write_episode(tmp_path, "val", "000000", tiny_episode)
    return tmp_path


def edit(root: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change the first annotation in place."""
    path = root / "annotation" / "train" / "000000.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_the_files_are_where_foreign_loaders_look(dataset_root: Path, tiny_episode: Episode) -> None:
    content = json.loads((dataset_root / "annotation/train/000000.json").read_text())
    assert content["videos"] == [{"video_path": "videos/train/000000/rgb.mp4"}]
    assert (dataset_root / content["videos"][0]["video_path"]).is_file()
    assert content["episode_id"] == "000000"
    assert content["texts"] == ["push the red block"]
    state, action = np.array(content["state"]), np.array(content["action"])
    assert state.shape == (6, 6)
    assert action.shape == (5, 7)
    assert tiny_episode.states is not None
    np.testing.assert_allclose(state, tiny_episode.states[:, :6], atol=1e-6)
    # 0 open .. 1 closed there, 1 = open .. 0 here.
    np.testing.assert_allclose(content["continuous_gripper_state"], 1 - tiny_episode.states[:, 6], atol=1e-6)
    # Their training code computes this from `state` again and must find the same.
    np.testing.assert_allclose(action[:, :6], actions_from_states(tiny_episode.states)[:, :6], atol=2e-6)
    assert set(action[:, 6]) <= {0.0, 1.0}
    assert content["success"] == [False] * 5 + [True]


def test_what_is_written_is_read_back(dataset_root: Path, tiny_episode: Episode) -> None:
    dataset = open_dataset(dataset_root)
    assert isinstance(dataset, BridgeDataset)
    assert dataset.ids == ("000000", "000001", "000002")
    assert len(open_dataset(dataset_root, split="val")) == 1
    back = dataset[-1]
    assert back.id == "000002"
    assert back.instruction == tiny_episode.instruction
    assert tiny_episode.states is not None
    np.testing.assert_allclose(back.actions, tiny_episode.actions, atol=1e-6)
    np.testing.assert_allclose(back.states, tiny_episode.states, atol=2e-6)
    assert np.abs(back.frames.astype(int) - tiny_episode.frames).mean() < 1.5
    assert back.extras["task"] == "push"
    assert [episode.id for episode in dataset[1:]] == ["000001", "000002"]
    assert [episode.id for episode in dataset] == list(dataset.ids)


def test_foreign_files_without_commands_and_with_the_other_spelling(dataset_root: Path, tiny_episode: Episode) -> None:
    edit(dataset_root, lambda content: [content.pop(name) for name in ("commanded_action", "texts", "fps")])
    (dataset_root / "annotation").rename(dataset_root / "annotations")
    episode = open_dataset(dataset_root, split="train")[0]
    assert episode.instruction == ""
    assert episode.fps == 5.0
    assert tiny_episode.states is not None
    np.testing.assert_allclose(episode.actions, actions_from_states(tiny_episode.states), atol=1e-5)


@pytest.mark.parametrize("missing", ["state", "continuous_gripper_state", "action", "videos"])
def test_a_missing_field_is_named_with_its_file(dataset_root: Path, missing: str) -> None:
    path = edit(dataset_root, lambda content: (content.pop("commanded_action"), content.pop(missing)))
    with pytest.raises(UserError) as caught:
        open_dataset(dataset_root)[0]
    assert f"missing field {missing!r}" in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(state=[["x"] * 6]), "field 'state' is not rows"),
        (lambda c: c.update(state=[[0.0] * 3] * 6), "field 'state' has shape"),
        (lambda c: c.update(state=c["state"][:4]), "4 rows of 'state' but 6"),
        (lambda c: c.update(commanded_action=[[0.0] * 6] * 5), "field 'commanded_action' has shape"),
        (lambda c: c.update(commanded_action=[[0.0] * 7] * 3), "actions are [3, 7]"),
        (lambda c: c["commanded_action"][0].__setitem__(0, float("nan")), "not finite"),
        (lambda c: c.update(videos=[]), "'videos' lists 0"),
        (lambda c: c["videos"][0].update(video_path="videos/none.mp4"), "no such video"),
    ],
)
def test_a_faulty_field_is_told_in_one_sentence(
    dataset_root: Path, change: Callable[[dict[str, Any]], object], said: str
) -> None:
    edit(dataset_root, change)
    with pytest.raises(UserError) as caught:
        open_dataset(dataset_root)[0]
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cut_off_json_and_unknown_names(dataset_root: Path) -> None:
    path = dataset_root / "annotation/train/000000.json"
    path.write_text(path.read_text()[:100])
    with pytest.raises(UserError, match="not valid JSON"):
        open_dataset(dataset_root)
    with pytest.raises(UserError, match="did you mean 'val'"):
        open_dataset(dataset_root, split="vla")
    with pytest.raises(UserError, match="did you mean '000000'"):
        open_dataset(dataset_root, split="val").get("00000")


def test_an_episode_exists_only_with_its_json(dataset_root: Path, tiny_episode: Episode) -> None:
    (dataset_root / "annotation/train/000001.json").unlink()
    assert open_dataset(dataset_root).ids == ("000000", "000002")
    with pytest.raises(UserError, match="has no states"):
        write_episode(dataset_root, "train", "9", Episode(tiny_episode.frames, tiny_episode.actions))
    assert not (dataset_root / "videos/train/9").exists()


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    with pytest.raises(RuntimeError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("killed")
    assert list(target.parent.iterdir()) == []
    with atomic_path(target) as temporary:
        temporary.write_text("whole")
        os.link(temporary, target.parent / f"{temporary.name}-left-by-a-kill")
    assert target.read_text() == "whole"
    assert remove_partial_files(tmp_path) == 1
    assert [path.name for path in target.parent.iterdir()] == ["file.txt"]


def test_bulk_loading_and_its_cache(dataset_root: Path, tiny_episode: Episode) -> None:
    seen = []
    first = load_frames(open_dataset(dataset_root), progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert first.frames.shape == (3, *tiny_episode.frames.shape)
    np.testing.assert_allclose(first.actions[2], tiny_episode.actions, atol=1e-6)
    assert first.stack("success").shape == (3, 6)
    again = load_frames(open_dataset(dataset_root), progress=lambda *_: pytest.fail("the cache was not used"))
    for name in ("frames", "actions", "states"):
        np.testing.assert_array_equal(getattr(again, name), getattr(first, name))
    assert again.extras == first.extras
    with pytest.raises(UserError, match="3 episodes have no 'weather'"):
        again.stack("weather")
    # Another episode makes the cache void.
    write_episode(dataset_root, "train", "000003", tiny_episode)
    assert len(load_frames(open_dataset(dataset_root))) == 4


def test_bulk_loading_refuses_unequal_lengths(dataset_root: Path, tiny_episode: Episode) -> None:
    assert tiny_episode.states is not None
    short = Episode(tiny_episode.frames[:4], tiny_episode.actions[:3], tiny_episode.states[:4])
    write_episode(dataset_root, "train", "000003", short)
    with pytest.raises(UserError, match="cut them alike"):
        load_frames(open_dataset(dataset_root))
