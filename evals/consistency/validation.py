"""Do the evals see what they should? A clean rendered clip, its corruptions, and the promises that must hold.

    wfm-sim eval consistency --validate

The clip is a walk through a room of our own with exact cameras. Floors hold on it; warps of 1, 2 and 4 px are strictly
ordered; a scene that is swapped, frozen or only panned over never scores well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from wfm_sim.evals.consistency import corruptions
from wfm_sim.evals.consistency.clips import NamedClip
from wfm_sim.evals.consistency.run import score_all
from wfm_sim.evals.consistency.sampson import canvas_scale
from wfm_sim.evals.consistency.score import ConsistencySettings
from wfm_sim.evals.run_folder import write_pretty

SIZE = (240, 320)
FRAMES = 16
VERTICAL_FOV = 46.4  # a focal length of 280 px
ROOM = 2  # what is seen of it is deep; before a bare wall, rotation is ten times less certain (docs/consistency.md)
FLOORS = {"sampson_median": 0.25, "reprojection": 0.25, "rotation_error_mean": 0.05, "ate": 0.001}
NAMES = (
    "clean", "jpeg q40", "noise sigma 20", "rubber sheet 1 px", "rubber sheet 2 px", "rubber sheet 4 px",
    "jitter 4 px 1 deg", "swap", "frozen", "pan",
)  # fmt: skip
SWAP_WORSE = 2.0
SHEETS = ("clean", "rubber sheet 1 px", "rubber sheet 2 px", "rubber sheet 4 px")


@dataclass(frozen=True)
class Promise:
    """What must hold, whether it does, and the numbers that say so."""

    name: str
    holds: bool
    found: str


@dataclass(frozen=True)
class Scene:
    """What the validation starts from: a clip with its cameras, another scene for the swap, a pan."""

    clean: NamedClip
    other: NamedClip
    pan: NamedClip


def room_scene(seed: int = ROOM, size: tuple[int, int] = SIZE, frames: int = FRAMES) -> Scene:
    """Two walks and a pan through rooms of our own, rendered."""
    from wfm_sim.assets.rooms import build_room, walk
    from wfm_sim.envs.rooms import RoomRenderer

    made = []
    for i, name in enumerate(("clean", "other")):
        room = build_room(seed + i)
        path = walk(room, seed + i, frames=frames)
        with RoomRenderer(room, size=size, vertical_fov=VERTICAL_FOV) as renderer:
            made.append(_render(renderer, name, path))
            if name == "clean":
                made.append(_render(renderer, "pan", pan_of(path)))
    return Scene(made[0], made[2], made[1])


def pan_of(c2w: np.ndarray, degrees: float = 25.0) -> np.ndarray:
    """From the first pose of a path: a turn to the right on the spot, as many frames."""
    from wfm_sim.camera import motion_matrix

    turns = np.zeros((len(c2w), 6))
    turns[:, 4] = np.radians(np.linspace(0, degrees, len(c2w)))
    return np.asarray(c2w[0] @ motion_matrix(turns))


def _render(renderer: Any, name: str, path: np.ndarray) -> NamedClip:
    frames = np.stack([renderer.render(pose)[0] for pose in path])
    return NamedClip(name, frames, renderer.intrinsics, path)


@dataclass(frozen=True)
class Corrupted:
    """The clips of the validation, as a source (see clips.ClipSource)."""

    scene: Scene
    label: str = f"room {ROOM}"
    portable: bool = False

    @property
    def names(self) -> Sequence[str]:
        """Of the table's rows."""
        return NAMES

    @property
    def identity(self) -> Mapping[str, Any]:
        """What decides the clips."""
        shape = list(self.scene.clean.frames.shape[:3])
        return {"source": f"validation on {self.label}", "frames": shape}

    def load(self, index: int) -> NamedClip:
        """One clean or corrupted clip."""
        clean, name = self.scene.clean, NAMES[index]
        if name == "pan":
            return self.scene.pan
        made: dict[str, Callable[[Any], Any]] = {
            "clean": lambda f: f,
            "jpeg q40": corruptions.jpeg,
            "noise sigma 20": corruptions.noise,
            **{f"rubber sheet {p} px": partial(corruptions.rubber_sheet, pixels=p) for p in (1, 2, 4)},
            "jitter 4 px 1 deg": corruptions.jitter,
            "swap": partial(corruptions.swap, other=self.scene.other.frames),
            "frozen": corruptions.frozen,
        }
        return replace(clean, name=name, frames=made[name](clean.frames))


def validate(
    out: Path,
    settings: ConsistencySettings | None = None,
    scene: Scene | None = None,
    *,
    label: str = "",
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[dict[str, Any]], list[Promise]]:
    """Score the clips and check the promises.

    Args:
        out: The run's folder; it is resumed like any other.
        settings: How to score.
        scene: None renders one.
        label: What the scene is, where one is given.
    """
    settings = settings or ConsistencySettings()
    source = Corrupted(scene or room_scene(), label or f"room {ROOM}")
    said = None if progress is None else lambda n: progress(n, len(NAMES))
    records = score_all(source, out, settings, workers=workers, progress=said)
    promises = check(records)
    write_pretty(out / "validation.json", {"records": records, "promises": [vars(p) for p in promises]})
    (out / "table.md").write_text(format_table(records) + "\n", encoding="utf-8")
    return records, promises


def check(records: Sequence[Mapping[str, Any]]) -> list[Promise]:
    """The promises of the validation."""
    by = {r["clip"]: r for r in records}
    return [*_floors(by["clean"]), *_orders(by), *_never(by)]


def _floors(clean: Mapping[str, Any]) -> list[Promise]:
    found = []
    for metric, limit in FLOORS.items():
        value = clean.get(metric)
        found.append(Promise(f"clean: {metric} < {limit:g}", value is not None and value < limit, _number(value)))
    models, frames = list(clean.get("models", ())), clean.get("frames")
    return [*found, Promise("clean: one model of all frames", models == [frames], f"{models} of {frames}")]


def _orders(by: Mapping[str, Mapping[str, Any]]) -> list[Promise]:
    """A warp of more pixels is worse, and any is worse than none."""
    found = []
    for metric, sign in (("sampson_median", 1), ("sampson_capped", 1), ("reprojection", 1), ("psnr", -1)):
        values = [by[name].get(metric) for name in SHEETS]
        if metric == "psnr" and any(v is None for v in values):
            continue  # view synthesis was not asked for
        strict = all(a is not None and b is not None and sign * a < sign * b for a, b in pairwise(values))
        said = (" < " if sign > 0 else " > ").join(map(_number, values))
        found.append(Promise(f"rubber sheets strictly ordered by {metric}", strict, said))
    return found


def _never(by: Mapping[str, Mapping[str, Any]]) -> list[Promise]:
    """A swap, a frozen clip and a pan score nothing."""
    swap, worse = by["swap"], SWAP_WORSE * by["clean"]["sampson_capped"]
    found = [
        Promise(
            f"swap: no success, and over {SWAP_WORSE:g} x the clean clip's capped Sampson error",
            swap["score"] == 0 and not swap["pose_success"] and swap["sampson_capped"] > worse,
            f"{swap['reason']}; {_number(swap['sampson_capped'])} > {_number(worse)}",
        )
    ]
    for name in ("frozen", "pan"):
        record = by[name]
        nothing = record["status"] == "not applicable" and record["score"] == 0 and not record["pose_success_loose"]
        found.append(Promise(f"{name}: not applicable, no success of any kind", nothing, record["reason"]))
    return found


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3g}"


SAMPSON = ("median", "mean", "capped")
# of the terminal; the Markdown table has more
HEAD = ("clip", "Sampson", "registered", "success", "rot deg", "ATE %", "reproj px", "PSNR / SSIM")
LEGEND = (
    "Sampson: median / paper's mean / capped, px of a 960 x 540 canvas. Rotation: mean over frames, relative to the "
    "first. ATE: % of the path's length."
)


def table_rows(records: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The cells of the table."""
    out = []
    for r in records:
        if "frames" not in r:
            out.append((r["clip"], *[""] * 2, r["reason"], *[""] * (len(HEAD) - 4)))
            continue
        models = "" if len(r["models"]) < 2 else f", {len(r['models'])} models"
        ate = None if r["ate"] is None else 100 * r["ate"]
        cells = (
            r["clip"],
            " / ".join(
                "none" if (v := r[f"sampson_{k}"]) is None else f"{v:.2f}" for k in ("median", "mean", "capped")
            ),
            f"{r['registered']} of {r['frames']}{models}",
            "n/a" if not r["applicable"] else "strict" if r["pose_success"] else "loose" if r["registered"] else "no",
            *("" if v is None else _number(v) for v in (r["rotation_error_mean"], ate, r["reprojection"])),
            "" if r["psnr"] is None else f"{r['psnr']:.1f} / {r['ssim']:.3f}",
        )
        out.append(cells)
    return out


def format_table(records: Sequence[Mapping[str, Any]]) -> str:
    """As Markdown, with the Sampson error in pixels of the frame too."""
    head = [*HEAD[:2], "of the frame", *HEAD[2:], "why not"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for r, row in zip(records, table_rows(records), strict=True):
        own = ""
        if "size" in r and r["sampson_median"] is not None:
            own = " / ".join(f"{r[f'sampson_{k}'] / canvas_scale(r['size']):.2f}" for k in ("median", "mean"))
        lines.append("| " + " | ".join([*row[:2], own, *row[2:], r["reason"]]) + " |")
    return "\n".join([*lines, "", LEGEND])
