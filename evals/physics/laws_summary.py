"""Shares of episodes in which each law is broken, beside the floor of ground-truth video, as data and as a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from wfm_sim.evals.estimate import Estimate
from wfm_sim.evals.physics.laws_model import LAWS
from wfm_sim.evals.statistics import wilson

SOURCES = ("model", "truth", "rerun")
ANY = "any law"


def broken_share(verdicts: Iterable[tuple[Any, bool | None]]) -> Estimate:
    """Of episodes, with Wilson's interval: (episode, broken or None) of each video.

    Views and seeds of one episode are not independent: an episode counts once, with the share of its videos.
    """
    episodes: dict[Any, list[bool]] = {}
    unscored = 0
    for episode, broken in verdicts:
        if broken is None:
            unscored += 1
        else:
            episodes.setdefault(episode, []).append(broken)
    if not episodes:
        return Estimate.none(f"none of {unscored} videos could be measured" if unscored else "not asked about")
    return wilson(sum(float(np.mean(videos)) for videos in episodes.values()), len(episodes))


def summarise(records: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> dict[str, Any]:
    """All rows: every law over the scenes that ask about it, then scene by scene.

    Args:
        records: Of laws_run.record.
        about: Kept beside the rows.

    Returns:
        `about`, and rows: law, scene ('' for all), title, unit; by source: broken (an Estimate as JSON), videos,
        unscored (videos that could not be measured); found and true: the medians, over the model's videos, of the
        measurement that deviates most in each.
    """
    scenes = list(dict.fromkeys(r["scene"] for r in records))
    rows = []
    for law in [*LAWS, ANY]:
        inside = [s for s in scenes if any(_verdict(r, law) is not None for r in records if r["scene"] == s)]
        for scene in ["", *inside] if inside else []:
            chosen = [r for r in records if not scene or r["scene"] == scene]
            rows.append({"law": law, "scene": scene, **_words(law), **_row(chosen, law)})
    return {**about, "sources": [s for s in SOURCES if any(r["source"] == s for r in records)], "rows": rows}


def _words(law: str) -> dict[str, str]:
    return {"title": LAWS[law].title, "unit": LAWS[law].unit} if law in LAWS else {"title": law, "unit": ""}


def _verdict(record: Mapping[str, Any], law: str) -> Mapping[str, Any] | None:
    """The record's verdict on a law; None when it is not asked about."""
    if law == ANY:
        known = [v["broken"] for v in record["laws"] if v["broken"] is not None]
        return {"broken": any(known) if known else None, "worst": None}
    return next((v for v in record["laws"] if v["law"] == law), None)


def _row(records: Sequence[Mapping[str, Any]], law: str) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for source in SOURCES:
        pairs = [(r, v) for r in records if r["source"] == source and (v := _verdict(r, law)) is not None]
        if not pairs:
            continue
        share = broken_share(((r["scene"], r["episode"]), v["broken"]) for r, v in pairs)
        unscored = sum(v["broken"] is None for _, v in pairs)
        out[source] = {"broken": share.to_json(), "videos": len(pairs), "unscored": unscored}
        worst = [v["worst"] for _, v in pairs if v["worst"]]
        if source == "model" and worst:
            for name, side in (("found", "found"), ("true", "truth")):
                out[name] = float(np.median([w[side]["value"] for w in worst]))
    return out


def format_laws(summary: Mapping[str, Any]) -> str:
    """As Markdown: laws over all scenes, then, where a law is asked about in several, scene by scene."""
    sources = summary["sources"]
    named = {
        "model": str(summary.get("entrant") or "model"),
        "truth": "the truth, tracked",
        "rerun": "the other engine",
    }
    lines = [
        f"Videos of {summary['frames']} frames, {summary['context']} given; share of episodes that break the law, "
        f"in %, with 95 % intervals; medians of the worst measurement of each video. Tracker: {summary['tracker']}.",
        "",
        "| law | " + " | ".join(named[s] for s in sources) + " | found | true | unit | unscored |",
        "|---|" + "---:|" * (len(sources) + 2) + "---|---:|",
    ]
    rows = summary["rows"]
    for row in rows:
        many = sum(r["law"] == row["law"] for r in rows) > 2
        if row["scene"] and not many:
            continue
        only = next((r["scene"] for r in rows if r["law"] == row["law"] and r["scene"]), "")
        name = f"{row['title']}" if not row["scene"] else f"– {row['scene']}"
        if not row["scene"] and not many:
            name += f" ({only})"
        cells = [_percent(row[s]["broken"]) if s in row else "–" for s in sources]
        numbers = [f"{row[key]:.3g}" if key in row else "–" for key in ("found", "true")]
        unscored = f"{row['model']['unscored']} of {row['model']['videos']}" if "model" in row else "–"
        lines.append("| " + " | ".join([name, *cells, *numbers, row["unit"] or "–", unscored]) + " |")
    return "\n".join(lines)


def _percent(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is None:
        return "unscored"
    return f"{100 * estimate['value']:.0f} [{100 * estimate['low']:.0f}, {100 * estimate['high']:.0f}]"
