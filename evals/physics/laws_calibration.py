"""Which deviations are alarms: tolerances from ground-truth video that went through the same tracker.

A law counts as broken in a video when one of its measurements deviates from the truth's by more than its tolerance: the
larger of what ever matters (Law.least) and of what all but 2 % of ground-truth videos stay below. The latter is the
split-conformal quantile, the ceil((n + 1)(1 - 2 %))-th smallest of the largest deviations of n videos, one of each
episode, of seeds that nothing else uses (Vovk, Gammerman & Shafer 2005); where n is below 49 it is the largest, and the
rate of false alarms is 1 / (n + 1). Tolerances are given by the number of pixels that the video was made of (a model of
64 pixels cannot know more), by the frames of context, and by scene.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wfm_sim.data.files import atomic_path, field, read_json
from wfm_sim.errors import UserError
from wfm_sim.evals.physics.laws_model import LAWS, Measurement

FORMAT, VERSION = "wfm-sim-physics-thresholds", 1
SHIPPED = Path(__file__).parent / "laws_thresholds.json"
FALSE_ALARM = 0.02


@dataclass(frozen=True)
class Tolerance:
    """Of one law in one scene.

    Attributes:
        limit: Deviations above it are alarms, in the law's unit.
        clips: Ground-truth videos that it rests on; 0: none, and `limit` is Law.least.
    """

    limit: float
    clips: int


@dataclass(frozen=True)
class Thresholds:
    """Tolerances by (pixels, context, scene, law), and what they were made from.

    Attributes:
        table: See above.
        about: JSON-able: tracker, renderer, seeds, machine.
    """

    table: dict[tuple[int, int, str, str], Tolerance]
    about: dict[str, Any]

    def of(self, pixels: int, context: int, scene: str, law: str) -> Tolerance:
        """The tolerance of the largest calibrated size up to `pixels` (or the smallest), and of the nearest context."""
        sizes, contexts = {key[0] for key in self.table}, {key[1] for key in self.table}
        if not sizes:
            return Tolerance(LAWS[law].least, 0)
        size = max((s for s in sizes if s <= pixels), default=min(sizes))
        near = min(contexts, key=lambda c: (abs(c - context), c))
        return self.table.get((size, near, scene, law), Tolerance(LAWS[law].least, 0))

    def to_json(self) -> dict[str, Any]:
        """What `load_thresholds` reads."""
        rows = [
            {"pixels": p, "context": c, "scene": s, "law": law, "limit": float(f"{t.limit:.4g}"), "clips": t.clips}
            for (p, c, s, law), t in sorted(self.table.items())
        ]
        return {"format": FORMAT, "version": VERSION, "about": self.about, "tolerances": rows}


@dataclass(frozen=True)
class Verdict:
    """One law in one video.

    Attributes:
        law: Its name in LAWS.
        broken: None when no measurement of it could be scored.
        worst: The measurement that deviates most; None when none could be scored.
        tolerance: That it was held against.
        unscored: Why not, of the first measurement that could not be scored; '' when all could.
    """

    law: str
    broken: bool | None
    worst: Measurement | None
    tolerance: Tolerance
    unscored: str = ""


def worst_of(measurements: Iterable[Measurement]) -> dict[str, Measurement]:
    """By law, the scored measurement with the largest deviation."""
    out: dict[str, Measurement] = {}
    for m in measurements:
        if m.deviation is not None and (m.law not in out or m.deviation > (out[m.law].deviation or 0.0)):
            out[m.law] = m
    return out


def verdicts(
    measurements: Sequence[Measurement], thresholds: Thresholds, scene: str, pixels: int, context: int
) -> list[Verdict]:
    """What one video breaks, a verdict per law that was asked about.

    Args:
        measurements: Of `laws.measure`.
        thresholds: Of `load_thresholds`.
        scene: Its name.
        pixels: Shorter side of the frames that the video was made of (before any resizing).
        context: Frames that were given.
    """
    worst = worst_of(measurements)
    out = []
    for law in dict.fromkeys(m.law for m in measurements):
        reason = next((m.unscored for m in measurements if m.law == law and m.deviation is None), "")
        tolerance = thresholds.of(pixels, context, scene, law)
        found = worst.get(law)
        broken = None if found is None else (found.deviation or 0.0) > tolerance.limit
        out.append(Verdict(law, broken, found, tolerance, reason))
    return out


def conformal_limit(deviations: Sequence[float], rate: float = FALSE_ALARM) -> float:
    """What the next deviation, drawn like the n given, is above with probability `rate` at most (or 1 / (n + 1))."""
    ordered = sorted(deviations)
    return ordered[min(math.ceil((len(ordered) + 1) * (1 - rate) - 1e-9), len(ordered)) - 1]


def calibrate(clips: Iterable[tuple[int, int, str, Sequence[Measurement]]], about: dict[str, Any]) -> Thresholds:
    """Thresholds from ground-truth videos: (pixels, context, scene, measurements) of each, one per episode."""
    seen: dict[tuple[int, int, str, str], list[float]] = {}
    for pixels, context, scene, measurements in clips:
        for law, measured in worst_of(measurements).items():
            seen.setdefault((pixels, context, scene, law), []).append(measured.deviation or 0.0)
    table = {
        key: Tolerance(max(LAWS[key[3]].least, conformal_limit(values)), len(values)) for key, values in seen.items()
    }
    return Thresholds(table, {"false_alarm": FALSE_ALARM, **about})


def save_thresholds(path: Path, thresholds: Thresholds) -> None:
    """As JSON, a tolerance a line."""
    content = thresholds.to_json()
    rows = ",\n".join(json.dumps(row) for row in content.pop("tolerances"))
    head = json.dumps(content, indent=1).removesuffix("\n}")
    with atomic_path(path) as temporary:
        temporary.write_text(f'{head},\n "tolerances": [\n{rows}\n]}}\n', encoding="utf-8")


def load_thresholds(path: Path = SHIPPED) -> Thresholds:
    """Those of a file, by default the shipped ones.

    Raises:
        UserError: no such file, or not of `wfm-sim physics calibrate-laws`.
    """
    content = read_json(path)
    if content.get("format") != FORMAT or content.get("version") != VERSION:
        raise UserError(f"{path}: no thresholds; `wfm-sim physics calibrate-laws --data DIR --out FILE` makes them")
    table = {}
    for row in field(content, "tolerances", path):
        pixels, context, scene, law = (field(row, name, path) for name in ("pixels", "context", "scene", "law"))
        if law not in LAWS:
            raise UserError(f"{path}: unknown law {law!r}; calibrate again with this version")
        limit = Tolerance(float(field(row, "limit", path)), int(field(row, "clips", path)))
        table[int(pixels), int(context), str(scene), str(law)] = limit
    return Thresholds(table, dict(content.get("about", {})))
