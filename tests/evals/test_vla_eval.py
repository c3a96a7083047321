"""The tabletop inside vla-eval: its own command, its own servers and files."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from wfm_sim.errors import UserError
from wfm_sim.evals.contestants import make_policy
from wfm_sim.evals.jobs import FIRST_SEED, SEEDS_PER_SET
from wfm_sim.policies.base import batch_of_one

pytest.importorskip("vla_eval", reason="vla-eval is not installed: pip install 'wfm-sim[vla-eval]'")

from vla_eval.api import serve_background  # type: ignore[import-not-found]
from vla_eval.model_servers.predict import PredictModelServer  # type: ignore[import-not-found]
from vla_eval.specs import (  # type: ignore[import-not-found]
    GRIPPER_CLOSE_POS,
    POSITION_DELTA,
    ROTATION_EULER,
    check_specs,
)

from wfm_sim.evals.vla_eval_benchmark import ACTION_SPEC, TabletopBenchmark
from wfm_sim.evals.vla_eval_server import PolicyServer, main

torch.set_num_threads(1)
CONFIG = Path("evals/configs/vla_eval_tabletop.yaml")


def in_the_twin(policy_name: str, task: str, seed: int, steps: int) -> tuple[bool, float, int]:
    """Success, progress and length of one episode, without vla-eval."""
    from wfm_sim.envs.twin import TabletopMuJoCoEnv

    env, policy = TabletopMuJoCoEnv(max_episode_steps=steps), make_policy(policy_name)
    obs, info = env.reset(seed=seed, options={"task": task})
    policy.reset(batch_of_one(info), [seed])
    ended, taken = False, 0
    while not ended:
        obs, _, terminated, truncated, info = env.step(policy.act(batch_of_one(obs))[0])
        ended, taken = terminated or truncated, taken + 1
    env.close()
    return info["is_success"], info["progress"], taken


def vla_eval(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Its console script, in a process of its own."""
    script = Path(sys.executable).with_name("vla-eval")
    return subprocess.run(
        [script, *arguments], cwd=cwd, env=dict(os.environ), capture_output=True, text=True, timeout=500
    )


@pytest.mark.slow
def test_vla_eval_run(root: Path, tmp_path: Path):
    """Both worlds by the shipped config, shortened: the twin's numbers are those of playing it ourselves."""
    steps = 12
    with serve_background(PolicyServer("expert")) as server:
        done = vla_eval(
            "run", "-c", str(root / CONFIG), "--server-url", server.url, "--output-dir", str(tmp_path),
            "--benchmark-field", "tasks=[push]", "--param", f"max_episode_steps={steps}",
            "--benchmark-field", "episodes_per_task=1", "--param", "seed=1", cwd=tmp_path,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Spec validation passed" in done.stderr and "ERROR" not in done.stderr
    seed = FIRST_SEED + SEEDS_PER_SET
    for world in ("model", "twin"):
        result = json.loads((tmp_path / f"TabletopBenchmark_{world}_aggregate.json").read_text())
        assert result["num_errors"] == 0 and result["seed"] == 1
        assert [task["task"] for task in result["tasks"]] == ["push"]
        (episode,) = result["tasks"][0]["episodes"]
        assert episode["metrics"]["scene_seed"] == seed and episode["suite"] == world
        (recorded,) = (tmp_path / "episodes" / f"TabletopBenchmark_{world}").glob("*.jsonl")
        rows = [json.loads(line) for line in recorded.read_text().splitlines()]
        assert len(rows) == episode["steps"] <= steps
        assert {"action", "state", "reward", "progress", "success", "done"} <= rows[0].keys()
        assert [row["done"] for row in rows] == [False] * (len(rows) - 1) + [True]
        assert recorded.with_suffix(".mp4").stat().st_size > 500
        assert ("trust_lowest" in episode["metrics"]) == ("trust" in rows[0])
        if world == "twin":
            success, progress, taken = in_the_twin("expert", "push", seed, steps)
            assert (episode["metrics"]["success"], episode["steps"]) == (success, taken)
            assert episode["metrics"]["progress"] == pytest.approx(progress, abs=1e-6)


def test_another_servers_mistakes_are_its_own(root: Path, tmp_path: Path):
    """A server that knows nothing of us sends eight numbers: the episode is an error with our sentence, no success."""

    class Wrong(PredictModelServer):
        def predict(self, obs, ctx):
            assert set(obs) == {"images", "task_description"}
            assert obs["images"]["agentview"].shape == (64, 64, 3) and obs["images"]["agentview"].dtype == np.uint8
            assert obs["task_description"].startswith("pick up the ")
            return {"actions": np.zeros(8, np.float32)}

    config = yaml.safe_load((root / CONFIG).read_text())
    twin = config["benchmarks"][1]
    config["benchmarks"] = [twin | {"episodes_per_task": 1, "tasks": ["pick"]}]
    from vla_eval.api import run  # type: ignore[import-not-found]

    with serve_background(Wrong()) as server:
        (result,) = run(config, server_url=server.url, output_dir=tmp_path)
    assert result["mean_success"] == 0.0 and result["num_errors"] == 1
    (episode,) = result["tasks"][0]["episodes"]
    assert episode["failure_reason"] == "env_step"
    assert "an action must have shape (7,), not (8,)" in episode["failure_detail"]


def test_actions_that_mean_something_else_are_named():
    """What vla-eval compares before the first episode: our formats match ourselves, and not LIBERO-like actions."""
    libero_like = {"position": POSITION_DELTA, "rotation": ROTATION_EULER, "gripper": GRIPPER_CLOSE_POS}
    assert check_specs(ACTION_SPEC, ACTION_SPEC, {}, {}) == []
    warned = check_specs(libero_like, ACTION_SPEC, {}, {})
    assert len(warned) == 3 and "delta_xyz vs delta_xyz_gripper_frame_metres" in " ".join(warned)


def test_trust_is_recorded_where_the_environment_has_it(monkeypatch):
    rows: list[dict] = []
    benchmark = TabletopBenchmark(world="twin")
    benchmark._recorder = SimpleNamespace(record_video=lambda frame: None, record_step=lambda **row: rows.append(row))
    benchmark.reset({"name": "push", "episode_idx": 0})
    action = {"actions": np.zeros(7, np.float32)}
    assert "trust_lowest" not in benchmark.get_step_result(benchmark.step(action))
    twins_step = benchmark._env.step

    def step(given):
        *rest, info = twins_step(given)
        return *rest, info | {"trust": 0.5, "trust_lowest": 0.25}

    monkeypatch.setattr(benchmark._env, "step", step)
    assert benchmark.get_step_result(benchmark.step(action))["trust_lowest"] == 0.25
    assert [row.get("trust") for row in rows] == [None, 0.5]
    benchmark.cleanup()


def test_standing_still_in_live_mode():
    benchmark = TabletopBenchmark(world="twin")
    assert benchmark.get_hold_action(None)["actions"].tolist() == [0] * 6 + [1]
    held = benchmark.get_hold_action({"actions": np.array([0.1] * 6 + [0.25], np.float32)})
    assert held["actions"].tolist() == [0] * 6 + [0.25]
    assert benchmark.get_metadata()["max_steps"] == 32
    assert benchmark.get_tasks() == [{"name": task, "suite": "twin"} for task in ("push", "pick", "place")]
    benchmark.cleanup()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"world": "twins"}, "unknown world 'twins'; did you mean 'twin'?"),
        ({"tasks": ["pusch"]}, "unknown task 'pusch'; did you mean 'push'?"),
        ({"seed": -1}, "seed must be a whole number from 0 up, not -1"),
        (
            {"world": "twin", "judge": "x"},
            "world_model, judge and trust belong to world 'model', not to the twin",
        ),
        ({"world_model": "nano-tabeltop"}, "unknown world model 'nano-tabeltop'; did you mean 'nano-tabletop'?"),
    ],
)
def test_bad_parameters(params, message):
    with pytest.raises(UserError) as error:
        TabletopBenchmark(**params)
    assert str(error.value) == message


def test_an_unknown_policy_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["vla_eval_server", "--args.policy=expertt", "--address=127.0.0.1:0"])
    assert main() == 2
    error = capsys.readouterr().err
    assert error.startswith("error: unknown policy 'expertt'; did you mean 'expert'?") and "Traceback" not in error


def test_without_vla_eval_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "vla_eval", None)
    for name in [name for name in sys.modules if name.startswith(("vla_eval.", "wfm_sim.evals.vla_eval"))]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match=r"pip install 'wfm-sim\[vla-eval\]'"):
        import wfm_sim.evals.vla_eval_server  # noqa: F401
