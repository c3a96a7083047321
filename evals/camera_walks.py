"""`wfm-sim eval camera`: walks through unseen scenes, in a table laid out as the paper's (arXiv 2501.03575, Table 22).

For a camera world, the truth (the floor) and two baselines: SfM pose success, rotation and translation error against
the commanded path, PSNR and SSIM against the true frames. And loops: a walk that goes back the way it came should end
with the frame that it began with; how far from it, in dB, is how much of a place the model remembers.

The folder gets one folder per entrant (a run of `wfm-sim eval consistency`, which the same command resumes), pictures/
and loops/ with their records and PNGs, summary.json and table.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.data.camera import CameraDataset, open_camera_dataset
from wfm_sim.data.files import atomic_path
from wfm_sim.errors import UserError
from wfm_sim.evals.camera_entrants import HOMOGRAPHY, MODEL, MODEL_DEPTH, REPEAT, TRUTH, Walks, imagine
from wfm_sim.evals.clips import write_strip
from wfm_sim.evals.consistency.run import evaluate
from wfm_sim.evals.consistency.score import ConsistencySettings
from wfm_sim.evals.estimate import Estimate
from wfm_sim.evals.physics.records import records_in
from wfm_sim.evals.provenance import machine, versions
from wfm_sim.evals.run_folder import write_pretty
from wfm_sim.evals.statistics import bootstrap_mean
from wfm_sim.video_metrics import psnr, ssim

ENTRANTS = (TRUTH, MODEL, MODEL_DEPTH, HOMOGRAPHY, REPEAT)
FORMAT = "wfm-sim camera summary 1"
_SHOWN = 6  # scenes in the picture


def run(
    model: Any,
    data: Path,
    out: Path,
    *,
    scenes: int = 60,
    frames: int = 16,
    loops: int = 20,
    loop_steps: int = 200,
    loop_data: Path | None = None,
    seed: int = 0,
    synthesis: bool = False,
    workers: int = 1,
    recordings: int = 2,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Walk, score and sum up. What is there already is not done again.

    Args:
        model: A camera world.
        data: Scenes that it has not seen, with cameras, of its frame size.
        out: The run's folder.
        scenes, frames: Walks, and frames of each with the given one.
        loops, loop_steps: Walks there and back, and steps of each; 0 leaves them out.
        loop_data: Their scenes, with paths of half so many steps; on shorter paths one goes to and fro.
        seed: Of the model's noise.
        synthesis: Also score view synthesis.
        workers: Processes for SfM.
        recordings: .rrd files per entrant.
        progress: Called with (what, done, of).

    Returns:
        The summary: entrants -> metrics -> Estimate.to_json(), gain over the homography, loops.

    Raises:
        UserError: no such data, frames of another size, too few scenes, or a folder of other settings.
    """
    clips = open_camera_dataset(data, model.spec.frame_size)
    if len(clips) < scenes:
        raise UserError(f"{data}: {len(clips)} scenes, but {scenes} were asked for")
    settings = ConsistencySettings(synthesis=synthesis)
    entrants: dict[str, dict[str, Any]] = {}
    # the depth of a first frame is of use to a model with a spatial memory only
    has_depth = clips[0].depth is not None and bool(getattr(model, "camera", None) and model.camera.points)
    entrants_here = tuple(e for e in ENTRANTS if has_depth or e != MODEL_DEPTH)
    for entrant in entrants_here:
        walks = Walks(clips, entrant, frames, scenes, model, seed, str(Path(data).resolve()))
        folder = out / entrant.replace(" ", "-")
        told = None if progress is None else partial(progress, entrant)
        label = entrant.replace(MODEL, model.spec.name)
        summary = evaluate(walks, folder, settings, name=label, workers=workers, recordings=recordings, progress=told)
        entrants[entrant] = {"clips": summary["clips"], "metrics": summary["metrics"], "cpu": summary["cpu_seconds"]}
    about = Walks(clips, MODEL, frames, scenes, model, seed, str(Path(data).resolve())).identity
    pictures = _pictures(clips, about, model, out / "pictures", frames, scenes, seed, entrants_here, progress)
    for entrant in entrants_here:
        rows = [r for r in pictures if r["entrant"] == entrant]
        for name in ("psnr", "ssim"):
            entrants[entrant]["metrics"][f"frame_{name}"] = bootstrap_mean([r[name] for r in rows]).to_json()
    by_scene = {(r["scene"], r["entrant"]): r["psnr"] for r in pictures}
    names = sorted({r["scene"] for r in pictures})
    gain = bootstrap_mean([by_scene[n, MODEL] - by_scene[n, HOMOGRAPHY] for n in names])
    far = clips if loop_data is None else open_camera_dataset(loop_data, model.spec.frame_size)
    where = {**about, "source": str(Path(loop_data or data).resolve())}
    looped = _loops(far, where, model, out / "loops", loops, loop_steps, seed, progress) if loops else []
    summary = {
        "format": FORMAT,
        "model": model.spec.name,
        "settings": {**about, "scenes": scenes, "loops": loops, "loop_steps": loop_steps},
        "entrants": entrants,
        "gain_over_homography": gain.to_json(),
        "loop_psnr": _over(looped, "loop_psnr", "not asked for"),
        "loop_half_psnr": _over(looped, "far_psnr", "not asked for"),
        "machine": machine(),
        "versions": versions(),
    }
    write_pretty(out / "summary.json", summary)
    with atomic_path(out / "table.md") as path:
        path.write_text(format_table(summary) + "\n", encoding="utf-8")
    return summary


def _pictures(
    clips: CameraDataset,
    about: Mapping[str, Any],
    model: Any,
    out: Path,
    frames: int,
    scenes: int,
    seed: int,
    entrants: Sequence[str],
    progress: Callable[[str, int, int], None] | None,
) -> list[dict[str, Any]]:
    """PSNR and SSIM of every entrant's frames but the given one, against the truth; and a picture of some walks."""
    with records_in(out, {**about, "scenes": scenes}) as book:
        done = {r["scene"] for r in book.records}
        drawn = (out / "walks.png").exists()
        strips: list[tuple[str, NDArray[np.uint8]]] = []
        for i in range(scenes):
            shown = i % max(1, scenes // _SHOWN) == 0 and i // max(1, scenes // _SHOWN) < _SHOWN and not drawn
            if clips.ids[i] in done and not shown:
                continue
            clip = clips[i]
            truth = clip.frames[:frames]
            records = []
            for entrant in entrants:
                guess = Walks(clips, entrant, frames, scenes, model, seed).walk(clip, i)
                if shown:
                    strips.append((f"{clip.id}: {entrant}", guess))
                records.append(
                    {
                        "scene": clips.ids[i],
                        "entrant": entrant,
                        "psnr": float(psnr(truth[1:], guess[1:]).mean()),
                        "ssim": float(ssim(truth[1:], guess[1:]).mean()),
                    }
                )
            if clips.ids[i] not in done:
                book.add(records)
            if progress:
                progress("frames", i + 1, scenes)
        if strips:
            write_strip(out / "walks.png", strips, columns=6)
        return book.records


def _loops(
    clips: CameraDataset,
    about: Mapping[str, Any],
    model: Any,
    out: Path,
    count: int,
    steps: int,
    seed: int,
    progress: Callable[[str, int, int], None] | None,
) -> list[dict[str, Any]]:
    """Walks along a scene's path and back, over and over, until `steps` are taken; the last step ends at the start."""
    with records_in(out, {**about, "loops": count, "steps": steps}) as book:
        done = {r["scene"] for r in book.records}
        for i in range(min(count, len(clips))):
            if clips.ids[i] in done:
                continue
            clip = clips[i]
            path = there_and_back(clip.poses, steps)
            frames = imagine(model, clip.frames[0], path, clip.intrinsics, seed + i)
            ends = {"loop_psnr": float(psnr(clip.frames[:1], frames[-1:])[0])}
            ends["far_psnr"] = float(psnr(clip.frames[:1], frames[steps // 2 : steps // 2 + 1])[0])
            book.add([{"scene": clip.id, **ends}])
            if i < 3:
                write_strip(out / f"{i}.png", [(clip.id, frames)])
            if progress:
                progress("loops", i + 1, count)
        return book.records


def there_and_back(poses: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """A path [steps + 1, 4, 4] out along poses [T, 4, 4] and back the same way, so that it ends where it began.

    Longer walks than the poses allow are gone in several turns; an even number of steps is needed.
    """
    if steps < 2 or steps % 2:
        raise UserError(f"a walk there and back has an even number of steps, at least 2, not {steps}")
    reach = min(len(poses) - 1, steps // 2)
    turns = -(-steps // (2 * reach))
    lengths = [2 * (steps // 2 // turns + (i < steps // 2 % turns)) for i in range(turns)]
    index = [0]
    for length in lengths:
        out = list(range(1, length // 2 + 1))
        index += [*out, *reversed(out[:-1]), 0]
    return poses[index]


def _over(records: Sequence[Mapping[str, Any]], name: str, nothing: str) -> dict[str, Any]:
    return (bootstrap_mean([r[name] for r in records]) if records else Estimate.none(nothing)).to_json()


def format_table(summary: Mapping[str, Any]) -> str:
    """As Table 22 of the paper: one row per entrant; then what the paper has not."""
    columns = (
        ("pose_success", "success, strict [%]", 100, 1),
        ("pose_success_loose", "success, as the paper's [%]", 100, 1),
        ("rotation_error_mean", "rotation [deg]", 1, 2),
        ("translation_error", "translation", 1, 3),
        ("frame_psnr", "PSNR [dB]", 1, 2),
        ("frame_ssim", "SSIM", 1, 3),
        ("fid", "FID", 1, 2),
        ("fvd", "FVD", 1, 2),
    )
    lines = ["| | " + " | ".join(label for _, label, _, _ in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for entrant, found in summary["entrants"].items():
        name = entrant.replace(MODEL, summary["model"])
        cells = [Estimate(**found["metrics"][key]).format(digits, scale) for key, _, scale, digits in columns]
        lines.append(f"| {name} | " + " | ".join(_short(c) for c in cells) + " |")
    gain, loop = Estimate(**summary["gain_over_homography"]), Estimate(**summary["loop_psnr"])
    s = summary["settings"]
    lines += [
        "",
        f"{s['scenes']} unseen scenes, walks of {s['frames']} frames, 95 % intervals over scenes. "
        "Unscored: FID and FVD need feature networks whose weights are not part of wfm-sim.",
        f"PSNR beyond the homography's: {gain.format(2)} dB.",
        f"Loop closure after {s['loop_steps']} steps: {loop.format(2)} dB against the first frame ({loop.n} scenes).",
    ]
    return "\n".join(lines)


def _short(cell: str) -> str:
    return "unscored" if cell.startswith("unscored") else cell
