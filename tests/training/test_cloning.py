"""Behaviour cloning end to end on made-up episodes: it learns, resumes bit for bit, keeps stages, refuses bad data."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from wfm_sim.actions import apply_action
from wfm_sim.cli import main
from wfm_sim.data.bridge import write_episode
from wfm_sim.data.episode import Episode
from wfm_sim.errors import UserError
from wfm_sim.policies.cloning_network import ActionChunk, action_scale
from wfm_sim.policies.learned import load_policy, save_policy
from wfm_sim.training import cloning, cloning_success
from wfm_sim.training.cloning import RECIPES, CloningRecipe, chunk_loss, stage_path, stages, train_policy
from wfm_sim.training.cloning_data import AFTER_SUCCESS, is_teacher, load_teachers
from wfm_sim.training.cloning_ship import ship_policies

TASKS = ("push", "pick", "place")
SMALL = CloningRecipe(steps=12, stages=(4,), batch=8, times=2)


def episode(i: int, policy: str = "expert", length: int = 8, success: int | None = 5) -> Episode:
    """The gripper goes straight to the target, in equal steps; a square shows where the target is."""
    rng = np.random.default_rng(i)
    target = np.array([rng.uniform(0.22, 0.36), rng.uniform(-0.1, 0.1), 0.021, 0.0])
    pose = np.array([0.28, 0.0, 0.12, 0.0, 0.0, 0.0, 1.0])
    action = np.append((target[:3] - pose[:3]) / length, [0, 0, 0, float(i % 2)])
    poses = [pose]
    for _ in range(length):
        poses.append(apply_action(poses[-1], action))
    frames = np.full((length + 1, 64, 64, 3), 90, np.uint8)
    row, column = int(40 - 300 * (target[0] - 0.29)), int(32 - 250 * target[1])
    frames[:, row - 3 : row + 4, column - 3 : column + 4] = (200, 30, 30)
    extras: dict[str, Any] = {
        "policy": policy,
        "success": np.array([success is not None and t >= success for t in range(length + 1)]),
        "task": TASKS[i % 3],
        "target_colour": ("red", "blue")[i % 2],
        "object_rgb": np.array([[0.8, 0.1 + 0.01 * i, 0.1], [0.1, 0.2, 0.8]]),
        "agent_pos": np.array(poses),
        "layout": {"task": i % 3, "target": target.tolist(), "goal": [0.3, 0.05, 0.0]},
    }
    actions = np.tile(action, (length, 1)).astype(np.float32)
    return Episode(frames, actions, np.array(poses, np.float32), id=f"{i:03d}", extras=extras)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for i in range(44):
        write_episode(root, "train", f"{i:03d}", episode(i, ("expert", "expert-noise0.2")[i % 2]))
    for i, (policy, success) in enumerate(
        [("expert-offset", 5), ("expert-noise0.7", 5), ("expert", None), ("play", 5)]
    ):
        write_episode(root, "train", f"{90 + i:03d}", episode(i, policy, success=success))
    return root


def test_teachers_are_experts_that_succeeded_cut_after_the_success(data: Path) -> None:
    teachers = load_teachers(data, noise=0.3)
    assert len(teachers) == 44 and teachers.frames is None
    assert set(np.diff(teachers.offsets)) == {5 + AFTER_SUCCESS}
    last = episode(43)
    np.testing.assert_allclose(teachers.actions[teachers.offsets[43]], last.actions[0], atol=1e-5)
    np.testing.assert_allclose(teachers.poses[-1], last.extras["agent_pos"][4 + AFTER_SUCCESS], atol=1e-5)
    np.testing.assert_allclose(teachers.layouts[43][:4], last.extras["layout"]["target"], atol=1e-5)
    assert teachers.palette["red"] == pytest.approx((0.8, 0.31, 0.1), abs=1e-3)
    assert len(load_teachers(data, noise=0.1)) == 22 and len(load_teachers(data, noise=0.3, limit=5)) == 5


@pytest.mark.parametrize(
    ("policy", "success", "expected"),
    [
        ("expert", [0, 1], True),
        ("expert-noise0.25", [0, 1], True),
        ("expert-noise0.35", [0, 1], False),
        ("expert-noise0.1-offset", [0, 1], False),
        ("expert-late_close", [0, 1], False),
        ("expert", [0, 0], False),
        ("expert", [1, 1], False),
    ],
)
def test_is_teacher(policy: str, success: list[int], expected: bool) -> None:
    assert is_teacher({"policy": policy, "success": success}, 0.3) is expected


def test_frames_come_from_the_cache_only_for_the_same_episodes(data: Path, tmp_path: Path) -> None:
    first = load_teachers(data, noise=0.3, limit=3, frames=True, cache=tmp_path)
    assert first.frames is not None and first.frames.shape == (21, 64, 64, 3)
    np.save(tmp_path / "frames.npy", np.zeros_like(first.frames))
    again = load_teachers(data, noise=0.3, limit=3, frames=True, cache=tmp_path)
    assert again.frames is not None and not again.frames.any()
    other = load_teachers(data, noise=0.3, limit=4, frames=True, cache=tmp_path)
    assert other.frames is not None and other.frames.shape == (28, 64, 64, 3) and other.frames.any()


def test_chunk_loss_by_hand() -> None:
    said = ActionChunk(torch.zeros(1, 2, 6), torch.full((1, 2, 6), 0.2), torch.tensor([[0.0, 9.0]]))
    actions = torch.zeros(1, 2, 7)
    actions[0, 0, :6] = 0.25 * action_scale()
    moved, gripper, error = chunk_loss(said, actions, torch.tensor([[True, False]]))
    assert float(moved) == pytest.approx(0.2 * (0.25 / 0.2 + np.log(2 * 0.2)))
    assert float(gripper) == pytest.approx(np.log(2)) and float(error) == pytest.approx(0.25)


def test_a_sure_number_does_not_outweigh_an_unsure_one() -> None:
    """Medians are pulled with the same force whatever the scale; a scale settles at the mean absolute error."""
    median = torch.zeros(1, 1, 6, requires_grad=True)
    scale = torch.tensor([0.01, 0.1, 0.3, 1.0, 0.3, 0.3]).view(1, 1, 6).requires_grad_()
    actions = torch.zeros(1, 1, 7)
    actions[0, 0, :6] = 0.3 * action_scale()
    chunk_loss(ActionChunk(median, scale, torch.zeros(1, 1)), actions, torch.ones(1, 1, dtype=torch.bool))[0].backward()
    assert median.grad is not None and scale.grad is not None
    torch.testing.assert_close(median.grad, torch.full((1, 1, 6), -1 / 6))
    assert scale.grad[0, 0, 1] < 0 < scale.grad[0, 0, 3] and abs(float(scale.grad[0, 0, 2])) < 1e-5


@pytest.mark.parametrize("form", ["state", "pixels"])
def test_it_learns_and_keeps_every_stage(form: str, data: Path, tmp_path: Path) -> None:
    recipe = replace(SMALL, steps=60 if form == "state" else 16, stages=(8,), lr=5e-3)
    paths = train_policy(data, tmp_path / "run", form, recipe)
    assert [path.name for path in paths] == [f"stage-{step}.safetensors" for step in stages(recipe)]
    losses = [load_policy(path).about["val_loss"] for path in paths]
    assert losses[1] < losses[0] - 0.2
    about = load_policy(paths[1]).about
    assert 0 < about["val_error"] < load_policy(paths[0]).about["val_error"]
    assert about["stage"] == recipe.steps and about["teachers"] == 44 and about["recipe"]["steps"] == recipe.steps
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert form == "state" or all("val_layout_mm" in row for row in rows if "val_loss" in row)


def test_a_stopped_run_continues_bit_identically(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_policy(data, tmp_path / "whole", "state", SMALL)
    loss = cloning.CloningTask.loss

    def dies(self: Any, step: int, *arguments: Any) -> Any:
        if step == 9:
            raise KeyboardInterrupt
        return loss(self, step, *arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(cloning.CloningTask, "loss", dies)
        train_policy(data, tmp_path / "broken", "state", SMALL)
    train_policy(data, tmp_path / "broken", "state", SMALL)
    for step in stages(SMALL):
        one, two = (load_file(stage_path(tmp_path / run, step)) for run in ("whole", "broken"))
        assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)
    with pytest.raises(UserError, match="a run with seed 0 was begun there"):
        train_policy(data, tmp_path / "broken", "state", replace(SMALL, seed=1))


def test_success_is_measured_written_and_resumed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = train_policy(data, tmp_path / "run", "state", replace(SMALL, steps=4))
    counts = cloning_success.measure_success([path], 1)[path]
    assert counts.keys() == set(TASKS) and all(of == 1 for _, of in counts.values())
    told = load_policy(path).about
    assert told["success"]["tasks"] == counts and told["stage"] == 4
    monkeypatch.setattr(cloning_success, "run_episode", lambda *_: pytest.fail("measured again"))
    assert cloning_success.measure_success([path], 1)[path] == counts


def test_policies_are_shipped_under_form_and_stage(data: Path, tmp_path: Path) -> None:
    path, other = train_policy(data, tmp_path / "run", "state", replace(SMALL, steps=5))
    policy = load_policy(path)
    save_policy(path, policy.network, {**policy.about, "success": {"episodes": 60}})
    out = tmp_path / "weights"
    command = ["train", "ship-policy", str(path), "--history", "by a test", "--out", str(out)]
    assert main(command) == 0
    (shipped,) = out.iterdir()
    assert shipped.name == "bc-state-4.safetensors" and shipped.stat().st_mode & 0o777 == 0o644
    told = load_policy(shipped).about
    assert told == {**policy.about, "success": {"episodes": 60}, "history": "by a test"}
    assert told["recipe"]["seed"] == 0 and told["data"] == data.name
    shipped.unlink()
    with pytest.raises(UserError, match=r"stage-5\.safetensors does not tell its success"):
        ship_policies([path, other], "", out)
    assert not list(out.iterdir())
    with pytest.raises(UserError, match="no policy given"):
        ship_policies([], "", out)


def test_the_recipes_keep_several_stages() -> None:
    assert len(stages(RECIPES["state"])) >= 3 and len(stages(RECIPES["pixels"])) >= 2
    assert stages(replace(RECIPES["state"], steps=400)) == (300, 400)


def test_bad_input(data: Path, tmp_path: Path, tiny_episode: Episode, capsys: pytest.CaptureFixture[str]) -> None:
    write_episode(tmp_path / "other", "train", "000000", tiny_episode)
    write_episode(tmp_path / "flawed", "train", "000000", episode(0, "expert-offset"))
    out = str(tmp_path / "out")
    for arguments, message in (
        (["--data", str(data), "--form", "pixel"], "did you mean 'pixels'"),
        (["--data", str(tmp_path / "nowhere")], "no such folder"),
        (["--data", str(data), "--steps", "0"], "steps must be at least 1"),
        (["--data", str(data), "--episodes", "-1"], "--episodes must be 0 or more"),
        (["--data", str(tmp_path / "other")], "no 'policy'"),
        (["--data", str(tmp_path / "flawed")], "no episode in which an expert"),
    ):
        assert main(["train", "policy", *arguments, "--out", out]) == 2
        error = capsys.readouterr().err
        assert message in error and "error: " in error
        assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
