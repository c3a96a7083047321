"""Training end to end on a few tiny clips: it learns something, resumes bit for bit, and refuses bad input."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from wfm_sim.actions import apply_action
from wfm_sim.data.bridge import write_episode
from wfm_sim.data.episode import Episode
from wfm_sim.training.action import ActionTask
from wfm_sim.training.action_recipe import prepare
from wfm_sim.training.loop import LoopConfig, generator_for
from wfm_sim.training.recipes import action_debug

COMMAND = [sys.executable, "-m", "wfm_sim.cli", "train"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def _episode(i: int, frames: int = 9) -> Episode:
    """A square that the actions move over a flat background."""
    rng = np.random.default_rng(i)
    actions = rng.uniform(-0.05, 0.05, (frames - 1, 7)).astype(np.float32)
    actions[:, 6] = 1
    place = np.concatenate(([[30, 30]], 30 + np.cumsum(actions[:, :2] * 100, axis=0)))
    states = np.zeros((frames, 7), np.float32)
    for k in range(frames - 1):
        states[k + 1] = apply_action(states[k], actions[k])
    pictures = np.full((frames, 64, 64, 3), 90 + 10 * i, np.uint8)
    for k, (x, y) in enumerate(place.round().astype(int)):
        pictures[k, y : y + 8, x : x + 8] = (200, 30, 30)
    return Episode(
        frames=pictures, actions=actions, states=states, instruction="", fps=5.0, id=str(i), source="test", extras={}
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for i in range(3):
        write_episode(root, "train", str(i), _episode(i))
    return root


@pytest.fixture(scope="module")
def tokenizer(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tok") / "run"
    done = _run("tokenizer", "--recipe", "debug", "--data", str(data), "--out", str(out))
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [r["loss"] for r in rows if "loss" in r]
    assert len(losses) == 10 and losses[-1] < losses[0]
    assert (out / "samples.png").is_file()
    return out / "model.safetensors"


def _run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *args], capture_output=True, text=True, env=ENVIRONMENT, timeout=240)


def _action_args(data: Path, out: Path, tokenizer: Path) -> list[str]:
    return ["action", "--recipe", "debug", "--data", str(data), "--out", str(out), "--from", str(tokenizer)]


def test_killed_training_continues_bit_identically(data: Path, tokenizer: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "a" / "run", tmp_path / "b" / "run"
    assert _run(*_action_args(data, whole, tokenizer)).returncode == 0
    process = subprocess.Popen([*COMMAND, *_action_args(data, broken, tokenizer)], env=ENVIRONMENT)
    deadline = time.time() + 120
    while not (broken / "checkpoint.pt").is_file() and time.time() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (broken / "checkpoint.pt").is_file()
    assert _run(*_action_args(data, broken, tokenizer)).returncode == 0
    a, b = load_file(whole / "model.safetensors"), load_file(broken / "model.safetensors")
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    first = torch.load(whole / "checkpoint.pt", weights_only=True)["model"]
    second = torch.load(broken / "checkpoint.pt", weights_only=True)["model"]
    assert all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["action", "--recipe", "nanoo", "--data", "DATA"], "did you mean"),
        (["action", "--recipe", "debug", "--data", "DATA", "--from", "nano-tabeltop"], "unknown world model"),
        (["action", "--recipe", "debug", "--data", "DATA", "--from", "TOK", "--hold-out", "77"], "hold out"),
        (["tokenizer", "--recipe", "debug", "--data", "EMPTY"], ""),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    args: list[str], message: str, data: Path, tokenizer: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    named = {"DATA": str(data), "TOK": str(tokenizer), "EMPTY": str(tmp_path / "empty")}
    done = _run(*[named.get(a, a) for a in args], "--out", str(tmp_path / "out" / "run"))
    assert done.returncode == 2 and message in done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_pooled_clips_move_on_one_frame_with_what_was_predicted(data: Path, tokenizer: Path, tmp_path: Path) -> None:
    recipe = replace(action_debug(data, tmp_path / "run"), init=tokenizer, pool=2, pool_age=3, prev_noise=0.0)
    task = ActionTask(prepare(recipe))
    task.network = lambda x, *_, **__: torch.zeros_like(x)  # predicts every frame as a repetition of the one before
    ages = set()
    for step in range(12):
        task.loss(step, generator_for(0, step, 0), 0)
        for row, (first, age, anchor) in enumerate(task.pool_at.tolist()):
            if first < 0:
                continue
            ages.add(age)
            end = int(task.data.offsets[np.searchsorted(task.data.offsets, first, side="right")])
            assert anchor < first and first + recipe.clip <= end
            held = torch.from_numpy(np.array(task.latents[first - age : first - age + recipe.clip - 1]))
            assert torch.equal(task.pool_latent[row], held.transpose(0, 1))
    assert ages == {1, 2, 3}


def test_learning_rate_and_randomness_follow_from_the_step() -> None:
    cfg = LoopConfig(steps=100, lr=1.0, warmup=10, decay=0.2)
    assert cfg.lr_at(0) == pytest.approx(0.1) and cfg.lr_at(50) == 1.0
    assert cfg.lr_at(90) == pytest.approx(0.5) and cfg.lr_at(99) == pytest.approx(0.05)
    a, b, c = (torch.randn(3, generator=generator_for(0, s, r)) for s, r in ((5, 0), (5, 0), (5, 1)))
    assert torch.equal(a, b) and not torch.equal(a, c)
