"""`make demo`: five policies in the learned simulator and in its physics twin, and a report to look at.

Writes episodes.jsonl (as episodes end), summary.json, table.md, report.html and demo.rrd. The table is a function of
the seed; the speed is not, and stands apart.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import wfm_sim
from wfm_sim.assets.tabletop import TASKS, check_task
from wfm_sim.data.files import atomic_path, write_json
from wfm_sim.errors import UserError
from wfm_sim.evals.comparison_summary import Comparison, summarise, summary_lines
from wfm_sim.evals.loading import load_judge, load_model
from wfm_sim.evals.policy_comparison import MODEL, TWIN, Job, Outcome, Speed, compare, plan
from wfm_sim.evals.report import ShownClip, report_html
from wfm_sim.evals.rerun_log import Clip, write_recording

POLICIES = ("zero", "random", "expert-noise0.8", "expert-noise0.4", "expert")
KEPT = 3  # scenes per policy and task whose frames are kept to choose clips from

CODE = """\
import gymnasium as gym, wfm_sim
from wfm_sim.policies.scripted import ScriptedExpert
envs, policy = gym.make_vec("wfm_sim/Tabletop-v0", num_envs=16, terminate_on_success=False), ScriptedExpert()
obs, info = envs.reset(seed=20_000_000); policy.reset(info, seeds=range(16))
for _ in range(31): obs, reward, terminated, truncated, info = envs.step(policy.act(obs))
print("success in the learned simulator:", info["is_success"].mean())
"""


def main(
    world_model: Any = "nano-tabletop",
    *,
    judge: Any = "nano-tabletop-judge",
    policies: Sequence[str] = POLICIES,
    tasks: Sequence[str] = TASKS,
    episodes: int = 16,
    seed: int = 0,
    num_envs: int = 16,
    workers: int | None = None,
    out: Path | str = Path("runs/demo"),
    console: Console | None = None,
) -> Comparison:
    """Run the demo.

    Args:
        world_model, judge: Names, paths or objects, as `wfm_sim/Tabletop-v0` takes them.
        policies: Names of `contestants.CONTESTANTS`.
        tasks: Of the tabletop.
        episodes: Scenes per policy and task, the same in both worlds.
        seed: Chooses the scenes (never used in training) and seeds the bootstraps.
        num_envs: Rows of the model's batch.
        workers: Processes for the twin; None takes one per core.
        out: Folder for the results.

    Raises:
        UserError: unknown names, or numbers out of range.
    """
    for task in tasks:
        check_task(task)
    if num_envs < 1:
        raise UserError(f"the number of environments must be at least 1, not {num_envs}.")
    began = time.perf_counter()
    console, out = console or Console(), Path(out)
    cores = os.cpu_count() or 1
    workers = (cores if cores > 1 else 0) if workers is None else workers
    model, verdicts = load_model(world_model), load_judge(judge)  # what is wrong with them is said before anything runs
    jobs = plan(policies, tasks, episodes, seed=seed)
    first = min(job.seed for job in jobs)
    keep = [job for job in jobs if job.seed < first + KEPT]
    with _progress(console) as progress:
        bars = {
            MODEL: progress.add_task("imagined episodes", total=len(jobs)),
            TWIN: progress.add_task("physics episodes", total=len(jobs)),
        }
        outcomes, speed = compare(
            jobs,
            world_model=model,
            judge=verdicts,
            num_envs=num_envs,
            keep=keep,
            workers=workers,
            records_file=out / "episodes.jsonl",
            on_outcome=lambda outcome: progress.advance(bars[outcome.world]),
        )
    comparison = summarise(outcomes, seed=seed)
    name = model.spec.name
    threads = _threads()
    fps = f"{speed.fps:.0f} frames/s"
    about = {
        "world model": name,
        "scenes": f"{episodes} per policy and task, seeds {first} to {first + episodes - 1}, none used in training",
        "speed": f"{fps}: batch of {speed.num_envs}, judge included, {threads} thread(s)",
        "seconds": f"{time.perf_counter() - began:.0f} without this page",
        "machine": f"{platform.machine()}, {cores} cores, Python {platform.python_version()}",
        "version": f"wfm-sim {wfm_sim.__version__}",
    }
    clips = choose_clips(outcomes)
    write_json(out / "summary.json", {**comparison.to_json(), "about": about, "frames_per_second": speed.fps})
    _write(out / "table.md", markdown(comparison))
    _write(out / "report.html", report_html(comparison, clips, model=name, fps=fps, code=CODE, about=about))
    write_recording(out / "demo.rrd", [shown.clip for shown in clips], name="demo")
    _print(console, comparison, speed, threads, out, time.perf_counter() - began)
    return comparison


def choose_clips(outcomes: Sequence[Outcome]) -> list[ShownClip]:
    """Up to three pairs per task: the best policy's, one where the two worlds disagree (if any does), one failure."""
    by: dict[Job, dict[str, Outcome]] = {}
    for outcome in outcomes:
        if outcome.trace is not None:
            by.setdefault(outcome.job, {})[outcome.world] = outcome
    pairs = [(job, worlds[TWIN], worlds[MODEL]) for job, worlds in by.items() if len(worlds) == 2]
    chosen: list[tuple[Job, Outcome, Outcome]] = []
    for task in dict.fromkeys(job.task for job, _, _ in pairs):
        mine = [p for p in pairs if p[0].task == task]
        wishes = (
            [p for p in reversed(mine) if p[1].success],  # policies come from worst to best
            [p for p in reversed(mine) if p[1].success != p[2].success],
            [p for p in reversed(mine) if not p[1].success],
            mine,
        )
        picked: list[tuple[Job, Outcome, Outcome]] = []
        for wish in wishes:
            picked += [p for p in wish if p not in picked][:1]
        chosen += picked[:3]
    return [_shown(*pair) for pair in chosen]


def _shown(job: Job, twin: Outcome, model: Outcome) -> ShownClip:
    assert twin.trace is not None
    assert model.trace is not None
    longest = max(twin.trace, model.trace, key=lambda trace: len(trace.actions))
    clip = Clip(
        caption=f"{twin.trace.instruction}: {job.policy}, scene {job.seed}",
        real=twin.trace.frames,
        imagined=model.trace.frames,
        actions=longest.actions,
        state=longest.poses,
        real_reward=twin.trace.rewards,
        imagined_reward=model.trace.rewards,
    )
    return ShownClip(clip, (twin.success, twin.steps), (model.success, model.steps))


def markdown(comparison: Comparison) -> str:
    """The table and what is under it; the same for the same seed."""
    lines = ["| task | policy | twin, % | imagined, % | gap |", "|---|---|---|---|---|"]
    for cell in [*comparison.cells, *comparison.policies]:
        lines.append(f"| {' | '.join(_cells(cell))} |")
    return "\n".join([*lines, "", *(f"- {line}" for line in summary_lines(comparison)), ""])


def _cells(cell: Any) -> list[str]:
    gap = "" if cell.gap is None else f"{100 * cell.gap:+.0f}"
    return [cell.task, cell.policy, cell.twin.format(0, 100), cell.model.format(0, 100), gap]


def _print(console: Console, comparison: Comparison, speed: Speed, threads: int, out: Path, seconds: float) -> None:
    table = Table(title="success in the physics twin and as imagined, % [95 % interval]", title_justify="left")
    for name, justify in (
        ("task", "left"),
        ("policy", "left"),
        ("twin", "right"),
        ("imagined", "right"),
        ("gap", "right"),
    ):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    task = None
    for cell in [*comparison.cells, *comparison.policies]:
        if task not in (None, cell.task):
            table.add_section()
        cells = _cells(cell)
        table.add_row(cells[0] if cell.task != task else "", *cells[1:])
        task = cell.task
    console.print(table)
    for line in summary_lines(comparison):
        console.print(line, markup=False, highlight=False)
    console.print(
        f"\n{speed.fps:.0f} imagined frames/s (batch {speed.num_envs}, judged, {threads} thread(s)); "
        f"all in {seconds:.0f} s\n",
        highlight=False,
    )
    console.print(f"report     {out / 'report.html'}", highlight=False, soft_wrap=True)
    console.print(f"recording  {out / 'demo.rrd'}   (rerun {out / 'demo.rrd'})", highlight=False, soft_wrap=True)
    console.print("\nThe lines that do it:\n", highlight=False)
    console.print(CODE, markup=False, highlight=False, soft_wrap=True)


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console)
