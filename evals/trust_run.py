"""`wfm-sim eval trust`: from names to a folder of results.

The folder gets records.jsonl (one line per episode, written as it ends: the same command again goes on),
summary.json, table.md and reliability.png.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from wfm_sim.assets.tabletop import TASKS
from wfm_sim.data.files import atomic_path, write_json
from wfm_sim.envs.twin import TabletopMuJoCoEnv
from wfm_sim.envs.worlds import DEFAULT_TRUST
from wfm_sim.errors import UserError
from wfm_sim.evals.heldout import FIRST_SEED, HeldOut, held_out
from wfm_sim.evals.loading import load_judge, load_model
from wfm_sim.evals.nano import Verdict
from wfm_sim.evals.statistics import Estimate
from wfm_sim.evals.trust import exploit_record, held_out_records
from wfm_sim.evals.trust_plot import write_plot
from wfm_sim.evals.trust_summary import LABELS, UNTRUSTED, summarise
from wfm_sim.evals.twin_recorder import TwinRecorder, tabletop_plan
from wfm_sim.policies.exploiter import Shooting
from wfm_sim.progress import bar
from wfm_sim.tolerance import Tolerance
from wfm_sim.trust import Trust, load_trust, shipped_trust
from wfm_sim.weights import weights_hash
from wfm_sim.world_model import WorldModel

EXPLOIT_SEED = FIRST_SEED + 500_000  # scenes that no other eval looks at


def main(
    world_model: str | Path | WorldModel = "nano-tabletop",
    *,
    trust: str | Path | Trust = DEFAULT_TRUST,
    judge: Any = "nano-tabletop-judge",
    episodes: int = 200,
    exploits: int = 24,
    candidates: int = 50,
    steps: int = 24,
    batch: int = 16,
    out: Path | str = Path("runs/eval/trust"),
    cache: Path | str = Path("runs/cache"),
    seed: int = 0,
    console: Console | None = None,
) -> dict[str, Any]:
    """Measure trust, write the results and print the tables.

    Args:
        world_model: A preset's name, a checkpoint's path, or a model.
        trust: 'auto' (the shipped one that was calibrated for the model), a name, a path, or a `Trust`.
        judge: Name or path of the success judge; None leaves abstention and exploits out.
        episodes: Held-out episodes, the same as those of `eval nano`.
        exploits: Scenes in which the judge is exploited; 0 leaves them out.
        candidates: Chunks of actions that the exploiter chooses from.
        steps, batch, out, cache, seed: As `eval nano`.

    Returns:
        The summary (see `trust_summary.summarise`).

    Raises:
        UserError: unknown or unfit names, no trust for the model, numbers out of range.
    """
    for name, value, least in (("episodes", episodes, 1), ("exploits", exploits, 0), ("steps", steps, 1),
                               ("batch", batch, 1), ("candidates", candidates, 1)):  # fmt: skip
        if value < least:
            raise UserError(f"{name} must be at least {least}, not {value}.")
    console, out = console or Console(), Path(out)
    model = load_model(world_model)
    chosen, notice = find_trust(trust, model)
    judging = load_judge(judge)
    if notice:
        console.print(notice, highlight=False)
    limits = {k: v for k, v in chosen.tolerance.items() if k != "meaning"}
    tolerance, verdict = Tolerance(**limits), Verdict()
    plan = tabletop_plan(steps, model.spec.frame_size[0])
    shooting = Shooting(steps=steps, candidates=candidates)
    book = _Book(out, {
        "model": weights_hash(model) or model.spec.name,
        "trust": weights_hash(chosen.network),
        "calibration": asdict(chosen.calibration),
        "judge": "" if judging is None else weights_hash(getattr(judging, "network", None)) or type(judging).__name__,
        "tolerance": limits,
        "plan": plan.key(),
        "shooting": asdict(shooting),
    })  # fmt: skip
    began = time.perf_counter()
    recorder = TwinRecorder(plan)
    try:
        with bar("twin episodes") as progress:
            recorded: list[HeldOut] = []
            for episode in held_out(plan, episodes, cache, recorder):
                recorded.append(episode)
                progress(len(recorded), episodes)
        with bar(f"imagined by {model.spec.name}") as progress:
            missing = [e for e in recorded if not book.has("held-out", e.seed)]
            for i in range(0, len(missing), batch):
                progress(len(recorded) - len(missing) + i, len(recorded))
                group = missing[i : i + batch]
                book.add(held_out_records(model, chosen, judging, group, tolerance, verdict))
            progress(len(recorded), len(recorded))
    finally:
        recorder.close()
    if exploits and judging is not None:
        _exploit(book, exploits, lambda twin, s, task: exploit_record(
            model, chosen, judging, twin, s, task, shooting, tolerance, verdict), plan.size)  # fmt: skip
    wanted = {e.seed for e in recorded}
    records = [r for r in book.records if r["seed"] in wanted or 0 <= r["seed"] - EXPLOIT_SEED < exploits]
    summary = summarise(records, chosen.config.horizon, seed=seed)
    summary |= {"model": model.spec.name, "tolerance": chosen.tolerance, "trust_notice": notice}
    summary |= {"candidates": candidates, "protocol": {**asdict(plan), "first_seed": recorded[0].seed, "seed": seed}}
    summary["trust_quality"] = chosen.quality
    summary["seconds"] = round(time.perf_counter() - began, 1)
    write_json(out / "summary.json", summary)
    table = format_tables(summary)
    with atomic_path(out / "table.md") as path:
        path.write_text(table + "\n", encoding="utf-8")
    write_plot(out / "reliability.png", summary, model.spec.name)
    console.print(table, markup=False, soft_wrap=True, highlight=False)
    console.print(f"records, summary, tables and plot in {out}", highlight=False)
    return summary


def find_trust(trust: str | Path | Trust, model: WorldModel) -> tuple[Trust, str]:
    """The trust that was asked for, and a notice where it was calibrated for other weights.

    Raises:
        UserError: 'auto', and no shipped one is for these weights.
    """
    here = weights_hash(model)
    if str(trust) == DEFAULT_TRUST:
        for name, about in shipped_trust().items():
            if here is not None and about.get("hash") == here:
                return load_trust(name), ""
        raise UserError(
            f"no shipped trust was calibrated for these weights of {model.spec.name!r}; "
            "train one with `wfm-sim train trust`, and name its file with --trust"
        )
    chosen = trust if isinstance(trust, Trust) else load_trust(trust)
    same = here is not None and chosen.world_model.get("hash") == here
    other = f"this trust was calibrated for other weights ({chosen.world_model.get('name')!r})"
    return chosen, "" if same else other


def _exploit(
    book: _Book, count: int, record: Callable[[TabletopMuJoCoEnv, int, str], dict[str, Any]], size: int
) -> None:
    missing = [i for i in range(count) if not book.has("exploit", EXPLOIT_SEED + i)]
    if not missing:
        return
    twin = TabletopMuJoCoEnv(image_size=size, terminate_on_success=False)
    try:
        with bar("judge exploited in") as progress:
            for done, i in enumerate(missing):
                progress(count - len(missing) + done, count)
                book.add([record(twin, EXPLOIT_SEED + i, TASKS[i % len(TASKS)])])
            progress(count, count)
    finally:
        twin.close()


class _Book:
    """records.jsonl of one folder, begun anew where what decides the records has changed."""

    def __init__(self, out: Path, settings: dict[str, Any]) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.path, key = out / "records.jsonl", hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:16]
        self.records: list[dict[str, Any]] = []
        stamp = out / "records.key"
        if stamp.is_file() and stamp.read_text() == key and self.path.is_file():
            for line in self.path.read_text().splitlines():
                try:
                    self.records.append(json.loads(line))
                except json.JSONDecodeError:  # the last line of a run that was killed
                    break
        self.path.write_text("".join(json.dumps(r) + "\n" for r in self.records))
        stamp.write_text(key)

    def has(self, kind: str, seed: int) -> bool:
        return any(r["kind"] == kind and r["seed"] == seed for r in self.records)

    def add(self, records: list[dict[str, Any]]) -> None:
        self.records += records
        with self.path.open("a") as file:
            file.writelines(json.dumps(r) + "\n" for r in records)


def format_tables(summary: dict[str, Any]) -> str:
    """The results as Markdown."""
    horizon = summary["horizon"]
    lines = [f"| {summary['model']}, {summary['episodes']} held-out episodes | | goal |", "|---|---|---|"]
    for name, label in LABELS.items():
        shares = name.startswith("diverged")
        text = Estimate(**summary["headline"][name]).format(*((1, 100, "%") if shares else (3,)))
        gate = summary["gates"].get(name)
        goal = ""
        if gate:
            met = {True: "met", False: "**not met**", None: "unscored"}[gate["met"]]
            goal = f"{'>=' if gate['side'] == 'at least' else '<='} {gate['limit']:g}: {met}"
        lines.append(f"| {label.format(horizon=horizon)} | {text} | {goal} |")
    c = summary["collapse"]
    end = c["survival"][-1]["survival"]
    median = f"{c['median']}" if c["median"] is not None else f"not reached within {c['horizon']} steps"
    lines.append(
        f"| steps to collapse, median (Kaplan-Meier) | {median}; {100 * end:.0f} % not collapsed at the end | |"
    )
    lines += ["", "| trust | mean | came true | steps |", "|---|---|---|---|"]
    for b in summary["reliability"]["now"]:
        observed = Estimate(**b["observed"]).format(1, 100, "%")
        lines.append(f"| {b['low']:.3f} to {b['high']:.3f} | {100 * b['predicted']:.1f} % | {observed} | {b['n']} |")
    if "abstention" in summary:
        lines += ["", "| trusted at every step above | left out | success agrees with the twin | in those left out |"]
        lines.append("|---|---|---|---|")
        for row in summary["abstention"]:
            kept, rest = (Estimate(**row[k]).format(1, 100, "%") for k in ("agreement", "agreement_left_out"))
            lines.append(f"| {row['threshold']:g} | {100 * row['left_out']:.0f} % | {kept} | {rest} |")
    if "exploit" in summary:
        e = summary["exploit"]
        lines += [
            "",
            f"| best of {summary['candidates']} against the judge, {summary['exploits']} scenes | |",
            "|---|---|",
        ]
        for name, label in (
            ("imagined_success", "success as imagined"),
            ("true_success", "success in the twin"),
            ("diverged", "diverged at some step"),
            ("untrusted", f"untrusted (trust below {UNTRUSTED:g} at some step)"),
            ("false_successes_untrusted", f"untrusted, of {e['false_successes']} false successes"),
            ("untrusted_held_out", "for comparison: untrusted held-out episodes"),
        ):
            lines.append(f"| {label} | {Estimate(**e[name]).format(1, 100, '%')} |")
    return "\n".join(lines)
