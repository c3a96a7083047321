"""Cloned policies at run time: the contract, chunks, ensembling, noise, files and what they refuse."""

import json
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from wfm_sim.actions import ACTION_HIGH, ACTION_LOW
from wfm_sim.errors import UserError
from wfm_sim.policies.base import Policy
from wfm_sim.policies.cloning_network import FEATURES, CloningConfig, geometry, make_network
from wfm_sim.policies.learned import ClonedPolicy, load_policy, parse_policy, save_policy, shipped_policies
from wfm_sim.training.cloning_success import run_episode

sys.path.insert(0, str(Path(__file__).parent))
from dead_reckoning import batched_info, dead_reckon

TASKS = ("push", "pick", "place")
COLOURS = ("blue", "cyan", "green", "purple", "red", "yellow")
MODES = {"wfm_sim/Tabletop-v0": None, "wfm_sim/TabletopMuJoCo-v0": "sync"}  # the model's own vector environment
SMALL: dict[str, Any] = {"width": 24, "channels": (4, 4, 6), "keypoints": 4, "embedding": 4}


def network(form: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    colours = COLOURS if form == "pixels" else ()
    palette = tuple((0.9, 0.1 * i, 0.5 - 0.1 * i) for i in range(len(colours)))
    config = CloningConfig(form, TASKS, colours, palette, **{**SMALL, **changes})
    return make_network(config).requires_grad_(False).eval()


def policy(form: str, **options: Any) -> ClonedPolicy:
    return ClonedPolicy(network(form), **options)


@pytest.mark.parametrize("form", ["state", "pixels"])
@pytest.mark.parametrize("options", [{}, {"ensemble": True}, {"temperature": 1.0, "execute": 1}])
def test_contract_and_rows_are_independent(form: str, options: dict[str, Any]) -> None:
    assert isinstance(policy(form), Policy)
    together, _ = dead_reckon(policy(form, **options), [3, 4, 5], 8, size=64)
    assert together.shape == (8, 3, 7) and together.dtype == np.float32
    assert (together >= ACTION_LOW).all() and (together <= ACTION_HIGH).all()
    assert set(np.unique(together[..., 6])) <= {0.0, 1.0}
    for row, seed in enumerate([3, 4, 5]):
        alone, _ = dead_reckon(policy(form, **options), [seed], 8, size=64)
        np.testing.assert_array_equal(alone[:, 0], together[:, row])


def counted(used: ClonedPolicy) -> list[int]:
    """How often the network was asked, as it goes on."""
    asked = [0]
    ask = used._ask

    def count(*arguments: Any) -> Any:
        asked[0] += 1
        return ask(*arguments)

    used._ask = count  # type: ignore[method-assign]
    return asked


@pytest.mark.parametrize(
    ("options", "times"), [({}, 4), ({"execute": 1}, 12), ({"execute": 6}, 2), ({"ensemble": 1}, 12)]
)
def test_chunks_are_carried_out_before_it_asks_again(options: dict[str, Any], times: int) -> None:
    used = policy("state", **options)
    asked = counted(used)
    dead_reckon(used, [0], 12)
    assert asked[0] == times


def test_ensembling_averages_what_the_last_chunks_say_of_this_step() -> None:
    used = policy("state", ensemble=True)
    chunks = np.random.default_rng(0).uniform(-0.02, 0.02, (20, 6, 7))
    said = iter(chunks)
    used._ask = lambda *_: next(said)  # type: ignore[method-assign]
    used.reset(batched_info([0]), [0])
    actions = [used.act({"agent_pos": np.zeros((1, 7), np.float32)})[0] for _ in range(9)]
    weights = np.exp(-0.1 * np.arange(6))
    # The oldest chunk that reaches step 8 was asked for at step 3.
    expected = weights @ np.stack([chunks[3 + k][5 - k] for k in range(6)]) / weights.sum()
    np.testing.assert_allclose(actions[8][:6], expected[:6], rtol=1e-5)
    np.testing.assert_allclose(actions[0][:6], chunks[0][0][:6], rtol=1e-5)


def test_mask_restarts_only_the_chosen_rows() -> None:
    info = batched_info([1, 2])
    observation = {"agent_pos": info["layout"]["start"]}
    masked, kept = policy("state", temperature=1.0), policy("state", temperature=1.0)
    for each in (masked, kept):
        each.reset(info, [1, 2])
        first = each.act(observation)
    masked.reset(info, [1, 2], mask=np.array([False, True]))
    again, on = masked.act(observation), kept.act(observation)
    np.testing.assert_array_equal(again[0], on[0])
    np.testing.assert_array_equal(again[1], first[1])
    assert (again[1] != on[1]).any()


def test_temperature_follows_the_seed_and_has_the_predicted_scale() -> None:
    info = batched_info([0] * 150)
    observation = {"agent_pos": info["layout"]["start"]}
    still, drawn = policy("state"), policy("state", temperature=0.1)
    still.reset(info, range(150)), drawn.reset(info, range(150))
    moved = drawn.act(observation) - still.act(observation)
    layout = torch.from_numpy(np.concatenate([info["layout"]["target"], info["layout"]["goal"]], axis=1))
    scale = still.network(torch.from_numpy(observation["agent_pos"]), layout, torch.tensor([0] * 150)).scale[0, 0]
    task = int(info["layout"]["task"][0])
    scale = still.network(torch.from_numpy(observation["agent_pos"][:1]), layout[:1], torch.tensor([task])).scale[0, 0]
    # E|x| of a Laplace distribution is its scale.
    np.testing.assert_allclose(np.abs(moved[:, :6]).mean(axis=0), 0.1 * scale.numpy() * ACTION_HIGH[:6], rtol=0.35)


def test_the_pixel_form_sees_first_and_present_frame_task_and_colour() -> None:
    info = batched_info([1])
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 1, 64, 64, 3)).astype(np.uint8)

    def second_action(first: int, now: int, **changes: str) -> np.ndarray:
        used = policy("pixels", execute=1)
        used.reset({**info, **{key: np.array([value], object) for key, value in changes.items()}}, [0])
        used.act({"pixels": frames[first], "agent_pos": info["layout"]["start"]})
        return used.act({"pixels": frames[now], "agent_pos": info["layout"]["start"]})

    base = second_action(0, 1)
    np.testing.assert_array_equal(base, second_action(0, 1))
    other_colour = next(c for c in COLOURS if c != info["target_colour"][0])
    other_task = next(t for t in TASKS if t != info["task"][0])
    for other in (
        second_action(2, 1),
        second_action(0, 2),
        second_action(0, 1, target_colour=other_colour),
        second_action(0, 1, task=other_task),
    ):
        assert (other != base).any()


def test_the_pixel_form_needs_no_layout_and_resizes() -> None:
    info = {key: value for key, value in batched_info([1]).items() if key != "layout"}
    used = policy("pixels")
    used.reset(info, [0])
    frames = np.zeros((1, 96, 96, 3), np.uint8)
    assert used.act({"pixels": frames, "agent_pos": np.zeros((1, 7))}).shape == (1, 7)


def test_geometry_does_not_care_where_the_robot_stands(rng: np.random.Generator) -> None:
    pose, layout = rng.uniform(-0.3, 0.3, (5, 7)), rng.uniform(-0.3, 0.3, (5, 7))
    turn, shift = 0.2, np.array([0.05, -0.1])
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    pose2, layout2 = pose.copy(), layout.copy()
    pose2[:, :2], pose2[:, 5] = pose[:, :2] @ matrix.T + shift, pose[:, 5] + turn
    layout2[:, :2], layout2[:, 4:6] = layout[:, :2] @ matrix.T + shift, layout[:, 4:6] @ matrix.T + shift
    layout2[:, 3] += turn
    one, two = (geometry(torch.tensor(p), torch.tensor(q)).numpy() for p, q in ((pose, layout), (pose2, layout2)))
    assert one.shape == (5, FEATURES)
    for column in range(FEATURES):
        if column == 10:  # the push's angle, modulo a quarter turn
            difference = (one[:, 10] - two[:, 10]) / 2 / (np.pi / 2)
            np.testing.assert_allclose(difference, np.round(difference), atol=1e-6)
        elif column != 14:  # the yaw itself
            np.testing.assert_allclose(one[:, column], two[:, column], atol=1e-6)


@pytest.mark.parametrize("form", ["state", "pixels"])
def test_files_describe_themselves(form: str, tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    save_policy(path, network(form), {"stage": 7})
    loaded = load_policy(path, execute=2)
    assert loaded.config == network(form).config and loaded.about == {"stage": 7} and loaded.execute == 2
    save_policy(tmp_path / "q.safetensors", loaded.network, loaded.about)  # nothing is lost a second time
    again = load_policy(tmp_path / "q.safetensors", execute=2)
    one, two = (dead_reckon(each, [0, 1], 5, size=64)[0] for each in (loaded, again))
    np.testing.assert_array_equal(one, two)
    assert not list(tmp_path.glob(".partial*"))


def test_names_and_options(tmp_path: Path) -> None:
    path = tmp_path / "p-1.safetensors"
    save_policy(path, network("state"), {})
    parsed = parse_policy(f"bc:{path}@execute2@temperature0.5")
    assert (parsed.execute, parsed.temperature, parsed.ensemble) == (2, 0.5, False)
    assert parsed.name == f"bc:{path}@execute2@temperature0.5"
    assert parse_policy(f"bc:{path}@ensemble").ensemble
    for name, message in (
        (f"bc:{path}@ensembel", "did you mean 'ensemble'"),
        (f"bc:{path}@execute", "unknown option"),
        (f"bc:{path}@execute9", "1 to 6"),
        (f"bc:{path}@temperature-1", "temperature"),
        ("bc:nowhere.safetensors", "no policy file nowhere.safetensors"),
        ("bc-state-31415926", "unknown policy"),
    ):
        with pytest.raises(UserError, match=message):
            parse_policy(name)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.safetensors"
    path.write_bytes(b"PK rubbish")
    with pytest.raises(UserError, match="not a policy that can be read"):
        load_policy(path)
    save_file({"a": torch.zeros(2)}, path, {"format": "something else"})
    with pytest.raises(UserError, match="'something else'"):
        load_policy(path)
    meta = {"format": "wfm-sim policy 1", "config": json.dumps({"form": "state", "tasks": ["push"]})}
    save_file({"a": torch.zeros(2)}, path, meta)
    with pytest.raises(UserError, match="not a policy that can be read"):
        load_policy(path)


def test_bad_input() -> None:
    with pytest.raises(UserError, match="did you mean 'pixels'"):
        CloningConfig("pixel", TASKS)
    with pytest.raises(UserError, match="6 colours, but a palette of 0"):
        CloningConfig("pixels", TASKS, COLOURS)
    with pytest.raises(UserError, match="execute must be 1 to 6"):
        policy("state", execute=0)
    with pytest.raises(UserError, match="no 'layout'"):
        policy("state").reset({"task": np.array(["push"])}, [0])
    with pytest.raises(UserError, match="no 'target_colour'"):
        policy("pixels").reset({"task": np.array(["push"], object)}, [0])
    with pytest.raises(UserError, match="did you mean 'red'"):
        policy("pixels").reset({"task": np.array(["push"]), "target_colour": np.array(["redd"])}, [0])
    used = policy("pixels")
    with pytest.raises(UserError, match="reset"):
        used.act({"pixels": np.zeros((1, 64, 64, 3), np.uint8), "agent_pos": np.zeros((1, 7))})
    used.reset(batched_info([0]), [0])
    with pytest.raises(UserError, match="pixels must be uint8"):
        used.act({"pixels": np.zeros((1, 64, 64, 3)), "agent_pos": np.zeros((1, 7))})


def test_shipped_policies_are_small_and_tell_where_they_come_from() -> None:
    shipped = shipped_policies()
    assert len(shipped) >= 3 and {load_policy(name).config.form for name in shipped} == {"state", "pixels"}
    for name, path in shipped.items():
        about = load_policy(name).about
        assert path.stat().st_size <= 200_000
        assert name == f"bc-{load_policy(name).config.form}-{about['stage']}" and parse_policy(name).name == name
        assert about["success"]["episodes"] >= 60 and set(about["success"]["tasks"]) == set(TASKS)
        assert about["recipe"]["seed"] == 0 and about["data"] and about["teachers"] > 1000 and about["history"]


@pytest.mark.parametrize("form", ["state", "pixels"])
def test_shipped_stages_are_graded(form: str) -> None:
    """A later stage says the experts' actions better, and succeeds more often."""
    about = sorted((load_policy(name).about for name in shipped_policies() if form in name), key=lambda a: a["stage"])
    errors = [each["val_error"] for each in about]
    successes = [sum(won for won, _ in each["success"]["tasks"].values()) for each in about]
    assert len(about) >= 2 and errors == sorted(errors, reverse=True)
    assert successes == sorted(successes) and successes[-1] > successes[0] + 30


@pytest.mark.parametrize("name", ["bc-state-4000", "bc-pixels-2400"])
@pytest.mark.parametrize("world", ["wfm_sim/Tabletop-v0", "wfm_sim/TabletopMuJoCo-v0"])
def test_shipped_policies_act_in_both_worlds_by_batch(name: str, world: str) -> None:
    """The very same policy and call, whether frames come from physics or from the model; each row does its own."""
    env = gym.make_vec(world, num_envs=2, vectorization_mode=MODES[world])
    used = load_policy(name)
    observation, info = env.reset(seed=[20_000_001, 20_000_002], options={"task": "pick"})
    used.reset(info, [0, 1])
    before = np.linalg.norm(observation["agent_pos"][:, :3] - info["layout"]["target"][:, :3], axis=1)
    for _ in range(4):
        observation, *_ = env.step(used.act(observation))
    after = np.linalg.norm(observation["agent_pos"][:, :3] - info["layout"]["target"][:, :3], axis=1)
    assert observation["pixels"].shape == (2, 64, 64, 3)
    assert (after < before - 0.04).all()  # they go for their blocks
    env.close()


@pytest.mark.parametrize(("name", "least"), [("bc-state-4000", 5), ("bc-pixels-2400", 4)])
def test_the_last_stages_succeed_in_the_twin(name: str, least: int) -> None:
    env = gym.make("wfm_sim/TabletopMuJoCo-v0", disable_env_checker=True)
    outcomes = [run_episode(env, load_policy(name), task, seed) for task in TASKS for seed in (20_000_001, 20_000_002)]
    env.close()
    assert sum(outcomes) >= least
