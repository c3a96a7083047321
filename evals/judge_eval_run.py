"""`wfm-sim eval judge`: from a judge's name to a folder of results, and its errors into its own file.

The folder gets records.jsonl (one line per episode, of true frames and of imagined ones), summary.json, table.md and
sheet_01.png, sheet_02.png, ...: imagined frames to be checked by eye. Recorded episodes, imagined rollouts and a remote
judge's answers are kept, so that the same command again goes on where it was stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from wfm_sim.assets.tabletop import TASKS
from wfm_sim.data.files import atomic_path
from wfm_sim.envs.core import Judges
from wfm_sim.envs.worlds import MAX_EPISODE_STEPS
from wfm_sim.errors import UserError
from wfm_sim.evals import provenance
from wfm_sim.evals.judge_eval import IMAGINED, TRUE, imagined_frames, judge_record, rule
from wfm_sim.evals.judge_eval_episodes import JudgePlan, judge_plan, record
from wfm_sim.evals.judge_eval_sheet import choose, write_sheets
from wfm_sim.evals.judge_eval_summary import confusion, format_tables, summarise
from wfm_sim.evals.loading import judge_name, load_judge, load_model
from wfm_sim.evals.run_folder import write_pretty
from wfm_sim.judge import write_quality
from wfm_sim.progress import bar
from wfm_sim.weights import shipped
from wfm_sim.world_model import WorldModel

FRAMES = MAX_EPISODE_STEPS + 1  # of an episode


def main(
    judge: Any = "nano-tabletop-judge",
    *,
    world_model: str | Path | WorldModel = "nano-tabletop",
    episodes: int = 300,
    imagined: int = 200,
    sheet: int = 200,
    batch: int = 16,
    write: bool = False,
    max_requests: int = 5000,
    out: Path | str = Path("runs/eval/judge"),
    cache: Path | str = Path("runs/cache"),
    seed: int = 0,
    console: Console | None = None,
) -> dict[str, Any]:
    """Measure a judge, write the results and print the tables.

    Args:
        judge: Name, path, `openai:MODEL@URL`, or a judge.
        world_model: Whose imagined frames it is asked about.
        episodes: Held-out episodes of the twin per task.
        imagined: Of these, how many are imagined too, over all tasks; 0 leaves imagined frames out.
        sheet: Imagined frames on the contact sheets.
        batch: Rollouts that are imagined at once.
        write: Put the confusion matrix into the judge's file (or beside a remote judge's answers), where
            `eval policy` finds it.
        max_requests: More requests to a remote judge than this are refused before the first is made.
        out, cache: Folders for the results, and for episodes, rollouts and answers.
        seed: Of the bootstraps and of the choice of frames.

    Returns:
        The summary (see `judge_eval_summary.summarise`), with the protocol.

    Raises:
        UserError: unknown names, numbers out of range, too many requests, a judge that has no file to write to.
    """
    for name, value, least in (("episodes", episodes, 1), ("imagined", imagined, 0), ("sheet", sheet, 0),
                               ("batch", batch, 1), ("max-requests", max_requests, 0)):  # fmt: skip
        if value < least:
            raise UserError(f"{name} must be at least {least}, not {value}.")
    count = episodes * len(TASKS)
    if imagined > count:
        raise UserError(f"{imagined} episodes cannot be imagined where {count} are recorded; raise episodes.")
    console, out = console or Console(), Path(out)
    judging = load_judge(judge)
    if judging is None:
        raise UserError("a judge is what is measured here; none cannot be.")
    target = _target(judge, judging) if write else None
    announce = getattr(judging, "announce", None)
    if announce is not None:
        wanted = FRAMES * (count + imagined)
        console.print(announce(wanted), highlight=False, soft_wrap=True)
        if wanted > max_requests:
            raise UserError(
                f"up to {wanted} requests are more than {max_requests}; take fewer episodes, or raise --max-requests."
            )
    model = load_model(world_model) if imagined else None
    plan = judge_plan() if model is None else judge_plan(model.spec.frame_size[0])
    began = time.perf_counter()
    records, clips = _measure(judging, model, plan, count, imagined, batch, cache, out)
    summary = summarise(records, seed=seed)
    summary["judge"] = {"name": judge_name(judge), "hash": provenance.network_hash(judging)}
    if model is not None:
        summary["world_model"] = {"name": model.spec.name, "hash": provenance.network_hash(model)}
    summary["protocol"] = protocol(plan, count)
    summary["machine"], summary["versions"] = provenance.machine(), provenance.versions()
    summary["seconds"] = round(time.perf_counter() - began, 1)
    write_pretty(out / "summary.json", summary)
    with atomic_path(out / "table.md") as path:
        path.write_text(format_tables(summary) + "\n", encoding="utf-8")
    console.print(format_tables(summary, brief=True), markup=False, soft_wrap=True, highlight=False)
    if clips and sheet:
        shown = [r for r in records if r["frames"] == IMAGINED]
        pages = write_sheets(out, choose(shown, sheet, seed), shown, clips)
        console.print(f"imagined frames to check by eye: {pages[0].name} to {pages[-1].name}", highlight=False)
    console.print(f"records, summary and table in {out}", highlight=False)
    if target is not None:
        target(quality(summary))
        console.print(f"confusion matrix on {count} episodes written for {judge_name(judge)}", highlight=False)
    return summary


def _measure(
    judging: Judges, model: WorldModel | None, plan: JudgePlan, count: int, imagined: int, batch: int,
    cache: Path | str, out: Path,
) -> tuple[list[dict[str, Any]], list[Any]]:  # fmt: skip
    """Records of true and of imagined frames, and the imagined frames."""
    records: list[dict[str, Any]] = []
    clips: list[Any] = []
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(out / "records.jsonl") as partial, partial.open("w", encoding="utf-8") as file:

        def add(found: dict[str, Any]) -> None:
            records.append(found)
            file.write(json.dumps(found) + "\n")

        kept = []
        with bar("twin episodes, judged") as progress:
            for i, episode in enumerate(record(plan, count, cache), 1):
                add(judge_record(TRUE, episode, episode.frames, judging))
                if i <= imagined:
                    kept.append(episode)
                progress(i, count)
        if model is not None and imagined:
            name = json.dumps([model.spec.name, provenance.network_hash(model), str(getattr(model, "dtype", ""))])
            with bar(f"imagined by {model.spec.name}, judged") as progress:
                rollouts = imagined_frames(model, f"{name} {plan.key()}", kept, batch, cache)
                for i, (episode, frames) in enumerate(rollouts, 1):
                    add(judge_record(IMAGINED, episode, frames, judging))
                    clips.append(frames)
                    progress(i, imagined)
    return records, clips


def protocol(plan: JudgePlan, count: int) -> dict[str, Any]:
    """What was done to whom."""
    verdict = rule()
    return {
        "episodes": count,
        "first_seed": plan.first_seed,
        "last_seed": plan.first_seed + count - 1,
        "policies": list(plan.policies),
        "steps": plan.steps,
        "rule": f"probability above {verdict.threshold:g} on {verdict.frames} successive frames",
    }


def quality(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What goes into a judge's file: {"confusion": counts, counts of each task, protocol}."""
    tasks = {task: confusion(summary, task) for task in summary["tasks"]}
    return {"confusion": {**confusion(summary), "tasks": tasks, **summary["protocol"]}}


def _target(judge: Any, judging: Judges) -> Any:
    """Where a judge's quality is written to, as a function of it."""
    own = getattr(judging, "write_quality", None)
    if own is not None:
        return own
    if not isinstance(judge, str | Path):
        raise UserError("a judge without a file keeps no confusion matrix; name one by its file to write it there.")
    path = shipped().get(str(judge)) or Path(judge)
    return lambda found: write_quality(path, found)
