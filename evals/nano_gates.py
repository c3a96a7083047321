"""`wfm-sim eval nano`: the nano gates from a model's name to a folder of results.

The folder gets records.jsonl (one line per episode), summary.json, table.md and strips of true and imagined frames:
strip_first.png and strip_worst.png.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from wfm_sim.data.files import atomic_path, write_json
from wfm_sim.errors import UserError
from wfm_sim.evals import nano
from wfm_sim.evals.clips import write_strip
from wfm_sim.evals.heldout import HeldOut, held_out
from wfm_sim.evals.loading import load_judge, load_model
from wfm_sim.evals.nano_summary import format_table, summarise
from wfm_sim.evals.twin_recorder import TwinRecorder, tabletop_plan
from wfm_sim.world_model import WorldModel

DEFAULT_CACHE = Path("runs/cache")


def main(
    world_model: str | Path | WorldModel = "nano-tabletop",
    *,
    episodes: int = 200,
    out: Path | str = Path("runs/eval/nano"),
    judge: Any = "nano-tabletop-judge",
    cache: Path | str = DEFAULT_CACHE,
    steps: int = 24,
    batch: int = 16,
    seed: int = 0,
    strips: int = 8,
    console: Console | None = None,
) -> dict[str, Any]:
    """Run the gates, write the results and print the table.

    Args:
        world_model: A preset's name, a checkpoint's path, or a model.
        episodes: How many held-out episodes.
        out: Folder for the results.
        judge: Name or path of the success judge; None leaves success unscored.
        cache: Folder that keeps the recorded episodes for the next run.
        steps: Horizon of the rollouts.
        batch: Rollouts per model call.
        seed: Of the bootstrap; the rollouts are seeded by the episodes.
        strips: Episodes per contact sheet.

    Returns:
        The summary (see `nano_summary.summarise`), with the protocol and timings.

    Raises:
        UserError: unknown or unfit model, unreadable cache, numbers out of range.
    """
    for name, value in (("episodes", episodes), ("steps", steps), ("batch", batch)):
        if value < 1:
            raise UserError(f"{name} must be at least 1, not {value}.")
    console = console or Console()
    out = Path(out)
    model = load_model(world_model)
    size = model.spec.frame_size[0]
    plan = tabletop_plan(steps, size)
    chosen = load_judge(judge)
    recorder = TwinRecorder(plan)
    began = time.perf_counter()
    try:
        recorded: list[HeldOut] = []
        with _progress(console) as progress:
            bar = progress.add_task("twin episodes", total=episodes)
            for episode in held_out(plan, episodes, cache, recorder):
                recorded.append(episode)
                progress.advance(bar)
            bar = progress.add_task(f"imagined by {model.spec.name}", total=episodes)
            records, pairs = nano.evaluate(
                model,
                recorded,
                chosen,
                batch=batch,
                records_file=out / "records.jsonl",
                on_batch=lambda done: progress.update(bar, completed=done),
            )
    finally:
        recorder.close()
    summary = summarise(records, seed=seed)
    summary["model"] = model.spec.name
    summary["protocol"] = {**asdict(plan), "first_seed": recorded[0].seed, "plan_key": plan.key(), "seed": seed}
    summary["judge"] = getattr(chosen, "quality", None)
    summary["seconds"] = round(time.perf_counter() - began, 1)
    write_json(out / "summary.json", summary)
    table = format_table(summary, model.spec.name)
    with atomic_path(out / "table.md") as path:
        path.write_text(table + "\n", encoding="utf-8")
    worst = nano.worst_first(records)
    write_sheet(out / "strip_first.png", [pairs[i] for i in range(min(strips, len(pairs)))])
    write_sheet(out / "strip_worst.png", [pairs[i] for i in worst[:strips]])
    console.print(table, markup=False, soft_wrap=True, highlight=False)
    console.print(f"records, summary and strips in {out}", highlight=False)
    return summary


def write_sheet(path: Path, pairs: list[tuple[HeldOut, Any]]) -> Path:
    """True row above imagined row, for every pair."""
    rows = []
    for episode, imagined in pairs:
        verdict = "success" if episode.success.any() else "failure"
        rows.append((f"{episode.seed} {episode.policy}: {episode.instruction} (twin: {verdict})", episode.frames))
        rows.append(("", imagined))
    return write_strip(path, rows)


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console)
