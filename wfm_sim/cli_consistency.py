"""`wfm-sim eval consistency`: thin over wfm_sim.evals.consistency."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    path: Annotated[
        Path | None,
        typer.Argument(
            help="A video, a folder of images (one clip), of videos or of such folders, or a data set with cameras.",
            show_default=False,
        ),
    ] = None,
    frames: Annotated[int, typer.Option(help="Per clip, evenly spaced from first to last; 0 takes all.")] = 16,
    every: Annotated[int, typer.Option(help="Before that, take every so many frames.")] = 1,
    intrinsics: Annotated[str | None, typer.Option(help="fx,fy,cx,cy in pixels of the frames, where known.")] = None,
    fov: Annotated[float | None, typer.Option(help="Or the vertical field of view in degrees.")] = None,
    masks: Annotated[
        Path | None, typer.Option(help="Folder of masks of what moves: images, not black there; per clip a subfolder.")
    ] = None,
    floor: Annotated[
        Path | None, typer.Option(help="Ground-truth clips through the same codec, scored the same way beside.")
    ] = None,
    strides: Annotated[str, typer.Option(help="Sampson error of pairs so many frames apart, e.g. 1,4.")] = "1",
    synthesis: Annotated[bool, typer.Option(help="Fit views and score held-out ones.")] = True,
    incremental: Annotated[bool, typer.Option(help="Cross-check SfM by the incremental mapper.")] = True,
    limit: Annotated[float, typer.Option(help="Seconds that SfM of one clip may take.")] = 300.0,
    seed: Annotated[int, typer.Option(help="Of every random draw: the same seed gives the same numbers.")] = 0,
    recordings: Annotated[int, typer.Option(help="Write .rrd recordings of so many clips.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes; 0 takes one per core.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; the same command again resumes.", show_default=False)
    ] = None,
    validate: Annotated[
        bool, typer.Option("--validate", help="Instead: check the evals on a rendered clip and its corruptions.")
    ] = False,
) -> None:
    """Is what a video shows one rigid scene? Sampson error, structure from motion, view synthesis, with intervals."""
    import os

    from rich.console import Console

    from wfm_sim.errors import UserError
    from wfm_sim.evals.consistency.score import ConsistencySettings
    from wfm_sim.evals.consistency.sfm import SfmSettings
    from wfm_sim.progress import bar

    settings = ConsistencySettings(
        sfm=SfmSettings(incremental=incremental, seconds=limit, seed=seed),
        strides=_strides(strides),
        synthesis=synthesis,
        seed=seed,
    )
    cores = workers or os.cpu_count() or 1
    console = Console()
    if validate:
        if path is not None:
            raise UserError("--validate makes its own clips; leave the path out")
        raise typer.Exit(_validate(out or Path("runs/eval/consistency-validation"), settings, cores, console))
    if path is None:
        raise UserError("name a video or a folder, or ask for --validate")
    from wfm_sim.evals.consistency.clips import ReadOptions, open_clips
    from wfm_sim.evals.consistency.run import evaluate as run
    from wfm_sim.evals.consistency.summary import account_lines, rich_table

    folder = out or Path("runs/eval/consistency") / (path.resolve().stem or "clips")
    options = ReadOptions(every, frames, _intrinsics(intrinsics), fov, masks)
    clips, truth = open_clips(path, options), None if floor is None else open_clips(floor, options)
    clips.probe()
    with bar("scoring") as progress:
        summary = run(clips, folder, settings, floor=truth, workers=cores, recordings=recordings, progress=progress)
    console.print(rich_table(summary))
    for line in [*account_lines(summary), f"In {folder}."]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _validate(out: Path, settings: object, workers: int, console: object) -> int:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from wfm_sim.evals.consistency.score import ConsistencySettings
    from wfm_sim.evals.consistency.validation import HEAD, LEGEND, table_rows
    from wfm_sim.evals.consistency.validation import validate as run
    from wfm_sim.progress import bar

    assert isinstance(settings, ConsistencySettings)
    assert isinstance(console, Console)
    with bar("validating") as progress:
        records, promises = run(out, settings, workers=workers, progress=progress)
    table = Table(*HEAD)
    for row in table_rows(records):
        table.add_row(*map(escape, row))
    console.print(table)
    console.print(LEGEND, highlight=False)
    for promise in promises:
        line = f"{'holds ' if promise.holds else 'BROKEN'}  {promise.name}: {promise.found}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return 0 if all(p.holds for p in promises) else 1


def _intrinsics(text: str | None) -> tuple[float, float, float, float] | None:
    from wfm_sim.errors import UserError

    if text is None:
        return None
    try:
        fx, fy, cx, cy = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"intrinsics {text!r}: expected fx,fy,cx,cy in pixels, such as 282,282,160,120") from None
    return fx, fy, cx, cy


def _strides(text: str) -> tuple[int, ...]:
    from wfm_sim.errors import UserError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise UserError(f"strides {text!r}: expected whole numbers from 1 with commas between, such as 1,4")
    return tuple(dict.fromkeys(int(part) for part in parts))
