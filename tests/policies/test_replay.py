"""Replay of recordings: exactly what was commanded, still afterwards, and at the right rate."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wfm_sim.actions import dead_reckoning
from wfm_sim.data import Episode, write_episode
from wfm_sim.errors import UserError
from wfm_sim.policies.base import Policy
from wfm_sim.policies.replay import ReplayPolicy, parse_replay, resample

OBSERVATION = {"agent_pos": np.array([[0.3, 0, 0.1, 0, 0, 0, 0.25]] * 2, np.float32)}


@pytest.fixture
def dataset(tmp_path: Path, tiny_episode: Episode) -> Path:
    for i in range(4):
        actions = tiny_episode.actions.copy()
        actions[:, 0] = 0.01 * i
        write_episode(tmp_path, "train", f"{i:06d}", replace(tiny_episode, actions=actions, id=f"{i:06d}"))
    write_episode(tmp_path, "val", "000009", tiny_episode)
    return tmp_path


def play(policy: ReplayPolicy, seeds: list[int], steps: int) -> np.ndarray:
    policy.reset({}, seeds)
    return np.stack([policy.act({"agent_pos": OBSERVATION["agent_pos"][[0] * len(seeds)]}) for _ in range(steps)])


def test_replays_to_the_end_and_then_holds_still(dataset: Path, tiny_episode: Episode) -> None:
    policy = parse_replay(f"replay:{dataset}@val#000009")
    assert isinstance(policy, Policy) and policy.name == f"replay:{dataset}@val#000009"
    actions = play(policy, [5, 6], 9)
    for row in (0, 1):
        np.testing.assert_allclose(actions[:5, row], tiny_episode.actions, atol=1e-6)
        np.testing.assert_array_equal(actions[5:, row, :6], 0)
        np.testing.assert_allclose(actions[5:, row, 6], tiny_episode.actions[-1, 6], atol=1e-6)


def test_mask_starts_one_row_again(tiny_episode: Episode) -> None:
    policy = ReplayPolicy([tiny_episode])
    play(policy, [0, 0], 2)
    policy.reset({}, [0, 0], mask=np.array([True, False]))
    actions = policy.act(OBSERVATION)
    np.testing.assert_array_equal(actions, tiny_episode.actions[[0, 2]])


def test_a_data_set_gives_each_seed_an_episode(dataset: Path) -> None:
    policy = parse_replay(f"replay:{dataset}")
    together = play(policy, list(range(12)), 1)[0]
    assert len(set(np.round(together[:, 0], 3))) == 4
    np.testing.assert_array_equal(play(policy, [7], 1)[0, 0], together[7])


def test_out_of_the_box_is_clipped_and_counted(tiny_episode: Episode) -> None:
    actions = tiny_episode.actions.copy()
    actions[1, 0] = 0.2
    policy = ReplayPolicy([replace(tiny_episode, actions=actions)])
    assert play(policy, [0], 2)[1, 0, 0] == np.float32(0.05) and policy.clipped == 1


def test_without_actions_it_stands_still_with_the_gripper_as_it_is(tiny_episode: Episode) -> None:
    still = Episode(tiny_episode.frames[:1], tiny_episode.actions[:0])
    np.testing.assert_array_equal(play(ReplayPolicy([still]), [0], 1)[0, 0], [0, 0, 0, 0, 0, 0, 0.25])


@pytest.mark.parametrize(("rate", "wanted"), [(10.0, 5.0), (5.0, 10.0), (15.0, 5.0), (7.0, 5.0)])
def test_resampled_actions_command_the_same_path(rng: np.random.Generator, rate: float, wanted: float) -> None:
    # Straight and steady, so that the path between two samples is known.
    actions = np.tile(np.array([0.01, 0.004, -0.002, 0, 0, 0.03, 1.0]), (12, 1))
    actions[7:, 6] = 0
    moved = resample(actions, rate, wanted)
    assert len(moved) == np.ceil(12 * wanted / rate)
    np.testing.assert_allclose(dead_reckoning(moved)[-1], dead_reckoning(actions)[-1], atol=1e-3)
    opens = int(np.argmax(moved[:, 6] < 0.5)) / wanted
    assert abs(opens - 7 / rate) <= 1 / wanted


def test_the_right_rate_is_left_alone(tiny_episode: Episode) -> None:
    assert resample(tiny_episode.actions, 5.0) is tiny_episode.actions


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("replay:", "names no data set"),
        ("replay:#3", "names no data set"),
        ("replay:nowhere#3", "no such folder"),
        ("replay:DATA#000004", "did you mean '00000"),
        ("replay:DATA@tset#000000", "unknown split"),
    ],
)
def test_bad_names(name: str, message: str, dataset: Path) -> None:
    with pytest.raises(UserError, match=message):
        parse_replay(name.replace("DATA", str(dataset)))
    with pytest.raises(UserError, match="no episodes"):
        ReplayPolicy([])
