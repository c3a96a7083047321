"""The pixel judge: its contract, its files, its training, and the shipped one on episodes it has never seen."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from wfm_sim import weights
from wfm_sim.assets import tabletop
from wfm_sim.data import open_dataset
from wfm_sim.data.bulk import EpisodeArrays, load_frames
from wfm_sim.envs.worlds import DEFAULT_JUDGE
from wfm_sim.errors import UserError
from wfm_sim.judge import Judge, JudgeConfig, JudgeNetwork, load_judge, save_judge
from wfm_sim.training import judge as training
from wfm_sim.training import judge_questions as questions
from wfm_sim.training.collect import CollectConfig, collect

torch.set_num_threads(1)
CONFIG = JudgeConfig(("pick", "place", "push"), ("blue", "red"))


@pytest.fixture
def judge():
    torch.manual_seed(0)
    network = JudgeNetwork(CONFIG)
    for parameter in network.parameters():  # the zero-initialised ones too: every part must matter
        torch.nn.init.normal_(parameter, std=0.05)
    return Judge(network, {"balanced_accuracy": 0.5})


def random_frames(rows, size=64, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (rows, size, size, 3), dtype=np.uint8)


def test_contract(judge):
    frames, first = random_frames(4), random_frames(4, seed=1)
    tasks, colours = ["push", "pick", "push", "place"], ["red", "red", "blue", "blue"]
    probability, progress = judge(frames, first, tasks, colours)
    for values in (probability, progress):
        assert values.shape == (4,) and values.dtype == np.float64 and ((values >= 0) & (values <= 1)).all()
    for row in range(4):  # the batch does not matter
        alone, _ = judge(frames[row : row + 1], first[row : row + 1], tasks[row : row + 1], colours[row : row + 1])
        assert alone[0] == pytest.approx(probability[row], abs=1e-5)


def test_every_input_matters(judge):
    frames, first = random_frames(1), random_frames(1, seed=1)
    answers = {
        judge(*asked)[0][0]
        for asked in (
            (frames, first, ["push"], ["red"]),
            (first, first, ["push"], ["red"]),
            (frames, frames, ["push"], ["red"]),
            (frames, first, ["pick"], ["red"]),
            (frames, first, ["push"], ["blue"]),
        )
    }
    assert len(answers) == 5


def test_other_frame_sizes_are_resized(judge):
    frames = random_frames(1)
    large = frames.repeat(2, 1).repeat(2, 2)
    asked = ["push"], ["red"]
    np.testing.assert_allclose(judge(large, large, *asked), judge(frames, frames, *asked), atol=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ["psuh"]}, "unknown task 'psuh'; did you mean 'push'"),
        ({"colours": ["rde"]}, "unknown target colour 'rde'; did you mean 'red'"),
        ({"frames": np.zeros((1, 64, 64, 3), np.float32)}, "frames must be uint8.*not float32"),
        ({"first_frames": np.zeros((64, 64, 3), np.uint8)}, r"first_frames must be.*\[64, 64, 3\]"),
    ],
)
def test_bad_input(judge, change, message):
    frames = random_frames(1)
    asked = {"frames": frames, "first_frames": frames, "tasks": ["push"], "colours": ["red"], **change}
    with pytest.raises(UserError, match=message):
        judge(**asked)


def test_a_file_describes_itself(judge, tmp_path):
    path = tmp_path / "judge.safetensors"
    save_judge(path, judge.network, {"balanced_accuracy": 0.75, "recipe": {"seed": 3}})
    again = load_judge(path)
    assert again.config == CONFIG and again.quality == {"balanced_accuracy": 0.75, "recipe": {"seed": 3}}
    frames, asked = random_frames(2), (["push", "pick"], ["red", "blue"])
    np.testing.assert_array_equal(again(frames, frames, *asked), judge(frames, frames, *asked))
    assert [file.name for file in tmp_path.iterdir()] == ["judge.safetensors"]


def test_bad_files(judge, tmp_path):
    path = tmp_path / "judge.safetensors"
    with pytest.raises(UserError, match="no judge at"):
        load_judge(path)
    save_judge(path, judge.network, {})
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="not a judge that can be read"):
        load_judge(path)
    torch.save(judge.network.state_dict(), path)
    with pytest.raises(UserError, match="not a judge that can be read"):
        load_judge(path)
    save_file({"a": torch.zeros(1)}, path, {"format": "something else"})
    with pytest.raises(UserError, match="metadata says 'something else'"):
        load_judge(path)


def test_geometry_is_the_scenes():
    for name in ("BLOCK_HALF", "ZONE_REACH", "PLATE_RADIUS", "LIFT_HEIGHT"):
        assert getattr(questions, name) == getattr(tabletop, name)


@pytest.fixture(scope="module")
def episodes(tmp_path_factory):
    """Eight fresh episodes of the twin, of a seed that nothing was trained on."""
    root = tmp_path_factory.mktemp("judged")
    collect(root, 8, CollectConfig(seed=991, split="val"))
    return load_frames(open_dataset(root, "val"), cache=False)


def test_questions(episodes):
    config = JudgeConfig(tabletop.TASKS, tuple(tabletop.PALETTE))
    recorded, added = questions.recorded_questions(episodes, config), questions.added_questions(episodes, config)
    success = episodes.stack("success")
    assert len(recorded) == success.size and recorded.success.sum() == success.sum() > 0
    for i in np.random.default_rng(0).integers(len(recorded), size=50):
        extras = episodes.extras[recorded.episode[i]]
        assert recorded.success[i] == extras["success"][recorded.time[i]]
        assert config.tasks[recorded.task[i]] == extras["task"]
        assert config.colours[recorded.colour[i]] == extras["target_colour"]
    assert added.success.any() and np.isnan(added.progress).all()
    # Added questions never contradict the record: asked about the recorded task and target, there are none.
    own = {(e, recorded.task[i], recorded.colour[i]) for i, e in enumerate(recorded.episode)}
    assert not any((e, added.task[i], added.colour[i]) in own for i, e in enumerate(added.episode))


@pytest.mark.parametrize("task", tabletop.TASKS)
def test_added_answers_are_the_twins(task, episodes):
    """Had another block been the target, the recorded one would be asked about as a distractor: the same answers."""
    config = JudgeConfig(tabletop.TASKS, tuple(tabletop.PALETTE))
    chosen = [i for i, extras in enumerate(episodes.extras) if extras["task"] == task]
    assert chosen
    asked = 0
    for e in chosen:
        extras = episodes.extras[e]
        target = extras["target_colour"]
        other = next(colour for colour in extras["object_colours"] if colour != target)
        changed = EpisodeArrays(
            episodes.frames[e : e + 1], episodes.actions[e : e + 1], episodes.states[e : e + 1], ["x"], [""],
            [{**extras, "target_colour": other}],
        )  # fmt: skip
        added = questions.added_questions(changed, config)
        mine = (added.task == config.tasks.index(task)) & (added.colour == config.colours.index(target))
        np.testing.assert_array_equal(added.success[mine], np.array(extras["success"])[added.time[mine]])
        asked += mine.sum()
    assert asked > 15 * len(chosen)


def test_goals_of_all_tasks_come_from_the_scene(episodes, tmp_path):
    goals = questions.task_goals(episodes, tmp_path / "goals.npz")
    assert len(goals) == len(episodes)
    for extras, known in zip(episodes.extras, goals, strict=True):
        scene = tabletop.sample_scene(extras["seed"], extras["task"])
        np.testing.assert_allclose(known["push"][:2], scene.zone_xy, atol=1e-6)
        np.testing.assert_allclose(known["place"][:2], scene.plate_xy, atol=1e-6)
    again = questions.task_goals(episodes, tmp_path / "goals.npz")
    assert all(np.array_equal(a[task], b[task]) for a, b in zip(goals, again, strict=True) for task in a)
    more = questions.added_questions(episodes, JudgeConfig(tabletop.TASKS, tuple(tabletop.PALETTE)), goals)
    per_task = np.bincount(more.task, minlength=3)
    assert (per_task > 0.4 * per_task.max()).all()  # every task is asked about, whatever was recorded
    other = EpisodeArrays(*(getattr(episodes, name) for name in ("frames", "actions", "states", "ids", "instructions")),
        [{**extras, "seed": extras["seed"] + 1} for extras in episodes.extras])  # fmt: skip
    assert questions.task_goals(other, tmp_path / "other.npz") is None  # not the scenes that were recorded


def test_shifts_move_both_images_alike():
    y, x = training.shifts(3, (64, 64), 2, np.random.default_rng(0))
    assert y.shape == (3, 64, 1) and x.shape == (3, 1, 64)
    inner = (y[:, 10:50, 0] - np.arange(10, 50)).std(axis=1)
    assert (inner == 0).all() and y.min() == 0 and y.max() == 63 and abs(y[:, 30, 0] - 30).max() <= 2


def synthetic(count, seed):
    """Episodes of 2 frames: a red and a blue square; the one asked for is a success in the upper half."""
    rng = np.random.default_rng(seed)
    frames = np.full((count, 2, 32, 32, 3), 128, np.uint8)
    extras = []
    for e in range(count):
        colours, rows = ["blue", "red"], rng.integers(0, 24, 2)
        for i, (row, column) in enumerate(zip(rows, (2, 18), strict=True)):
            frames[e, :, row : row + 8, column : column + 8] = ((20, 20, 220), (220, 20, 20))[i]
        target = int(rng.integers(2))
        won = bool(rows[target] < 12)
        extras.append(
            {"task": "push", "target_colour": colours[target], "object_colours": colours, "success": [won] * 2}
            | {"progress": [float(won)] * 2}
        )
    actions, states = np.zeros((count, 1, 7), np.float32), np.zeros((count, 2, 7), np.float32)
    return EpisodeArrays(frames, actions, states, [str(e) for e in range(count)], [""] * count, extras)


def test_training_learns_and_says_how_well(tmp_path, monkeypatch):
    data = {"train": synthetic(200, 0), "val": synthetic(100, 1)}
    monkeypatch.setattr(training, "open_dataset", lambda path, split: split)
    monkeypatch.setattr(training, "load_frames", lambda split: data[split])
    path = training.train_judge("anywhere", tmp_path / "run", training.JudgeRecipe(steps=120, batch=32, lr=3e-3))
    judge = load_judge(path)
    again = training.measure(judge, data["val"])
    assert again["balanced_accuracy"] > 0.9  # 0.5 for a judge that ignores the colour or the place
    for name, value in again.items():
        assert judge.quality[name] == value, name
    assert judge.quality["recipe"]["steps"] == 120 and judge.quality["steps"] == 120


def test_nothing_to_learn_from():
    data = synthetic(4, 0)
    for extras in data.extras:
        extras["success"] = [False, False]
    with pytest.raises(UserError, match="no frame of the training episodes is a success"):
        training.JudgeTask(data, data, training.JudgeRecipe())


def test_measures():
    truth = np.array([True, True, False, False, False, False])
    said = np.array([True, False, False, False, False, True])
    assert training.balanced_accuracy(said, truth) == (1 / 2 + 3 / 4) / 2
    assert np.isnan(training.balanced_accuracy(said, np.zeros(6, bool)))


@pytest.fixture
def shipped():
    if DEFAULT_JUDGE not in weights.shipped():
        pytest.skip("the weights of the judge are not there yet")
    return load_judge(DEFAULT_JUDGE)


def test_shipped_judge_keeps_its_word(shipped, episodes):
    assert weights.shipped()[DEFAULT_JUDGE].stat().st_size <= 2_000_000
    assert shipped.quality["balanced_accuracy"] >= 0.97
    assert {"recipe", "precision", "recall", "episodes", "frames"} <= shipped.quality.keys()
    assert set(shipped.config.tasks) == set(tabletop.TASKS) and set(shipped.config.colours) == set(tabletop.PALETTE)
    fresh = training.measure(shipped, episodes)
    assert fresh["balanced_accuracy"] >= 0.9, json.dumps(fresh)  # eight episodes: a wide interval


def test_shipped_judge_bears_blur_and_noise(shipped, episodes):
    """As imagined frames are: a judge that answered by fine texture would fall to 0.5."""
    frames = torch.from_numpy(np.ascontiguousarray(episodes.frames).reshape(-1, 64, 64, 3))
    recipe = training.JudgeRecipe(blur=1.0, noise=12.0)
    worn = training.augment(frames, recipe, torch.Generator().manual_seed(0)).numpy().reshape(episodes.frames.shape)
    data = EpisodeArrays(worn, episodes.actions, episodes.states, episodes.ids, episodes.instructions, episodes.extras)
    assert training.measure(shipped, data)["balanced_accuracy"] >= 0.85
