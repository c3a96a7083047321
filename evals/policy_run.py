"""`wfm-sim eval policy`: policies in a world model and in its physics twin, from names to a folder of results.

    summary = main(["random", "expert"], world_model="nano-tabletop", episodes=100, out="runs/policy")

The folder gets config.json, seeds.json, records.jsonl (a line per episode, as it ends), summary.json, submission.json
(for the leaderboard), table.md, report.html, clips/*.mp4 and run.rrd. The same call again runs only what is missing.
The records are a function of the settings in config.json alone: where a run was interrupted, how many processes or
machines it used and in which order episodes ended does not show in them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from wfm_sim.assets.tabletop import TASKS, check_task
from wfm_sim.data.files import atomic_path
from wfm_sim.envs.worlds import MAX_EPISODE_STEPS
from wfm_sim.errors import UserError
from wfm_sim.evals import provenance
from wfm_sim.evals.jobs import MODEL, TWIN, Job, Speed, plan
from wfm_sim.evals.loading import judge_name, load_judge, load_model
from wfm_sim.evals.policy_loading import code_hash, make_policy
from wfm_sim.evals.policy_report import markdown, page, terminal_table
from wfm_sim.evals.policy_run_clips import ClipEntry, choose, write_clips
from wfm_sim.evals.policy_run_ray import RayRunner, Setup, import_ray, portable
from wfm_sim.evals.policy_run_submission import submission
from wfm_sim.evals.policy_run_summary import JudgeErrors, RunSummary, lines, summarise_run
from wfm_sim.evals.policy_runner import LocalRunner, Runner
from wfm_sim.evals.rollouts import AnyVectorEnv, model_env, rows_of
from wfm_sim.evals.run_folder import RunFolder, write_pretty
from wfm_sim.evals.run_progress import Bars
from wfm_sim.evals.submission import write_submission

POLICIES = ("zero", "random", "expert-noise0.8", "expert-noise0.4", "expert")
FORMAT = 1  # of the records; raise when the same settings would give others


def main(
    policies: Sequence[str] = POLICIES,
    *,
    world_model: Any = "nano-tabletop",
    judge: Any = "nano-tabletop-judge",
    tasks: Sequence[str] = TASKS,
    episodes: int = 16,
    seed: int = 0,
    twin: bool = True,
    num_envs: int = 16,
    workers: int | None = None,
    clips: int = 2,
    trust_threshold: float = 0.5,
    ray: str | None = None,
    out: Path | str = Path("runs/policy"),
    console: Console | None = None,
) -> RunSummary:
    """Run an evaluation, or what is missing of it.

    Args:
        policies: Names (contestants.py) or `module:function`.
        world_model, judge: Names, paths or objects, as `wfm_sim/Tabletop-v0` takes them.
        tasks: Of the tabletop.
        episodes: Scenes per policy and task, the same for all and in both worlds.
        seed: Chooses the scenes (never used in training) and seeds the bootstraps.
        twin: Whether to run them in the physics twin as well.
        num_envs: Rows of the model's batch.
        workers: Processes for the twin; None takes one per core, 0 none beside this one.
        clips: Clips per policy.
        trust_threshold: Episodes whose trust fell below it are left out of the 'trusted' numbers.
        ray: Run on many machines: the address of a Ray cluster, or 'local'.
        out: Folder for the results.

    Raises:
        UserError: unknown names, numbers out of range, a folder made with other settings.
    """
    _check(policies, tasks, num_envs, clips, trust_threshold, workers)
    began = time.perf_counter()
    console = console or Console()
    # What is wrong with any of these is said before there is a folder.
    if ray is not None:
        import_ray()
    model, verdicts = load_model(world_model), load_judge(judge)
    if verdicts is None:
        raise UserError(
            "success in a world model is what its judge says; an evaluation of policies needs one, not none."
        )
    jobs = plan(policies, tasks, episodes, seed=seed)
    env = model_env(model, verdicts, min(num_envs, len(jobs)))
    if announce := getattr(verdicts, "announce", None):  # a remote judge is asked about every frame of every row
        console.print(announce((len(jobs) + env.num_envs) * (MAX_EPISODE_STEPS + 1)), highlight=False, soft_wrap=True)
    trust = getattr(env.unwrapped.world, "trust", None)  # type: ignore[attr-defined]
    settings = {
        "format": FORMAT,
        "world model": model.spec.name,
        "world model hash": provenance.network_hash(model),
        "precision": str(getattr(model, "dtype", "unknown")).removeprefix("torch."),
        "judge": judge_name(judge),
        "judge hash": provenance.network_hash(verdicts),
        "trust hash": provenance.network_hash(trust),
        "policies": list(policies),
        "policy hashes": {name: found for name in policies if (found := _policy_hash(name))},
        "tasks": list(tasks),
        "episodes": episodes,
        "seed": seed,
        "twin": twin,
        "num_envs": env.num_envs,
    }
    session = {
        "versions": provenance.versions(),
        "git": provenance.git_commit(),
        "machine": provenance.machine(),
        "ray": ray,
    }
    worlds = (TWIN, MODEL) if twin else (MODEL,)
    rows = rows_of(jobs, env.num_envs)
    setup = Setup(portable(world_model, model), portable(judge, verdicts), env.num_envs)
    with RunFolder.open(out, settings, session) as folder, _runner(env, setup, rows, workers, ray) as runner:
        seeds = list(dict.fromkeys(job.seed for job in jobs))
        write_pretty(folder.path / "seeds.json", {"scenes": seeds, "bootstraps": seed})
        done = {(o.world, o.job) for o in folder.outcomes}
        todo = {world: [job for job in jobs if (world, job) not in done] for world in worlds}
        speed = _run(runner, folder, jobs, todo, console)
        chosen = choose(folder.outcomes, jobs, clips)
        shown = write_clips(
            folder.path,
            chosen,
            folder.outcomes,
            lambda again, keep: runner.run(again, keep, keep=True),
            model.spec.fps,
        )
        summary = summarise_run(
            folder.outcomes,
            jobs,
            twin=twin,
            errors=JudgeErrors.of(verdicts),
            threshold=trust_threshold,
            seed=seed,
        )
        about = _about(settings, session, seeds, speed)
        _write_results(folder.path, summary, shown, settings, session, about)
    _print(console, summary, shown, folder.path, speed, time.perf_counter() - began)
    return summary


def _check(
    policies: Sequence[str],
    tasks: Sequence[str],
    num_envs: int,
    clips: int,
    threshold: float,
    workers: int | None,
) -> None:
    for kind, names in (("policy", policies), ("task", tasks)):
        if not [name for name in names if name]:
            raise UserError(f"at least one {kind} is needed.")
    for task in tasks:
        check_task(task)
    if num_envs < 1:
        raise UserError(f"the number of environments must be at least 1, not {num_envs}.")
    if clips < 0:
        raise UserError(f"the number of clips per policy must not be negative, but is {clips}.")
    if not 0 <= threshold <= 1:
        raise UserError(f"the trust threshold must lie in [0, 1], not at {threshold}.")
    if workers is not None and workers < 0:
        raise UserError(f"the number of workers must not be negative, but is {workers}.")


def _runner(env: AnyVectorEnv, setup: Setup, rows: Mapping[Job, int], workers: int | None, ray: str | None) -> Runner:
    return LocalRunner(env, rows, workers) if ray is None else RayRunner(setup, rows, ray)


def _run(
    runner: Runner, folder: RunFolder, jobs: Sequence[Job], todo: Mapping[str, Sequence[Job]], console: Console
) -> Speed | None:
    names = {TWIN: "physics episodes", MODEL: "imagined episodes"}
    missing = sum(map(len, todo.values()))
    there = len(jobs) * len(todo) - missing
    if there:
        console.print(f"resuming: {there} of {there + missing} episodes are there", highlight=False)
    if not missing:
        return None
    with Bars() as bars:
        for world, mine in todo.items():
            bars.add(world, names[world], done=len(jobs) - len(mine), total=len(jobs))

        def ended(outcome: Any) -> None:
            folder.add(outcome)
            bars.advance(outcome.world)

        return runner.run(todo, ended)


def _write_results(
    path: Path,
    summary: RunSummary,
    clips: Sequence[ClipEntry],
    settings: Mapping[str, Any],
    session: Mapping[str, Any],
    about: Mapping[str, str],
) -> None:
    write_pretty(path / "summary.json", {**summary.to_json(), "settings": settings, "about": about})
    for name, text in (
        ("table.md", markdown(summary)),
        ("report.html", page(summary, clips, path, model=str(settings["world model"]), about=about)),
    ):
        with atomic_path(path / name) as partial:
            partial.write_text(text, encoding="utf-8")
    write_submission(path, submission(path, summary, clips, settings, session))


def _about(
    settings: Mapping[str, Any], session: Mapping[str, Any], seeds: Sequence[int], speed: Speed | None
) -> dict[str, str]:
    machine = session["machine"]
    weights = settings["world model hash"] or "no file"
    about = {
        "world model": f"{settings['world model']}, {settings['precision']}, {weights}",
        "judge": f"{settings['judge']}, {settings['judge hash'] or 'no file'}",
        "scenes": f"{settings['episodes']} per policy and task, seeds {seeds[0]} to {seeds[-1]}, none used in training",
        "batch": str(settings["num_envs"]),
        "machine": ", ".join(f"{k} {v}" for k, v in machine.items()),
        "versions": ", ".join(f"{k} {v}" for k, v in session["versions"].items()),
    }
    if session["git"]:
        about["commit"] = session["git"]
    if speed is not None:
        about["speed"] = f"{speed.fps:.0f} imagined frames/s in the last session, judge included"
    return about


def _print(
    console: Console,
    summary: RunSummary,
    clips: Sequence[ClipEntry],
    path: Path,
    speed: Speed | None,
    seconds: float,
) -> None:
    console.print(terminal_table(summary))
    for line in lines(summary):
        console.print(line, markup=False, highlight=False)
    if clips:
        same = sum(clip.as_recorded for clip in clips)
        console.print(f"run again for their clips, {same} of {len(clips)} episodes ended as recorded", highlight=False)
    imagined = "" if speed is None else f"{speed.fps:.0f} imagined frames/s; "
    console.print(f"\n{imagined}{seconds:.0f} s\nreport  {path / 'report.html'}", highlight=False, soft_wrap=True)


def _policy_hash(name: str) -> str | None:
    """Of your code, or of a learned policy's weights; None for what is part of wfm-sim."""
    return code_hash(name) or provenance.network_hash(make_policy(name))
