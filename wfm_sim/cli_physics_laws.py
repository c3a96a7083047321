"""`wfm-sim physics laws` and `calibrate-laws`: thin over wfm_sim.evals.physics.laws_run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def laws(
    run: Annotated[Path, typer.Argument(help="A folder of `wfm-sim physics score --videos`.")],
    data: Annotated[Path, typer.Option(help="The data set that it was scored on.")],
    rerun: Annotated[Path | None, typer.Option(help="The same episodes by another engine, to stand beside it.")] = None,
    pixels: Annotated[
        int, typer.Option(help="Shorter side of the frames that the model makes, such as 64; 0 takes the data's.")
    ] = 0,
    thresholds: Annotated[
        Path | None, typer.Option(help="Of `wfm-sim physics calibrate-laws`, instead of the shipped ones.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes; 0 takes one per core.")] = 0,
    device: Annotated[str, typer.Option(help="Where the tracker's weights compute, if it has any.")] = "cpu",
) -> None:
    """Say which laws of physics a model's videos break, from what moves in them, in metres and seconds."""
    import os

    from wfm_sim.evals.physics.laws_calibration import SHIPPED
    from wfm_sim.evals.physics.laws_run import judge_run
    from wfm_sim.evals.physics.laws_summary import format_laws
    from wfm_sim.progress import bar

    with bar("judging") as progress:
        summary = judge_run(
            run,
            data,
            rerun=rerun,
            pixels=pixels,
            thresholds=thresholds or SHIPPED,
            workers=workers or os.cpu_count() or 1,
            device=device,
            progress=progress,
        )
    print(format_laws(summary))


def calibrate_laws(
    data: Annotated[
        Path, typer.Option(help="A data set of seeds that nothing else uses; 50 episodes a scene or more.")
    ],
    out: Annotated[Path, typer.Option(help="The file of thresholds to write.")],
    pixels: Annotated[str, typer.Option(help="Sizes to see it through, with commas between.")] = "64,256",
    contexts: Annotated[str, typer.Option(help="Frames of context, with commas between.")] = "1,9",
    frames: Annotated[int, typer.Option(help="Of each video.")] = 33,
) -> None:
    """Tolerances of the laws from ground-truth videos: what they stay below in 98 of 100."""
    from wfm_sim.errors import UserError
    from wfm_sim.evals.physics.laws_run import calibrate_on
    from wfm_sim.progress import bar

    numbers = []
    for name, text in (("pixels", pixels), ("contexts", contexts)):
        if not all(part.strip().isdigit() and int(part) > 0 for part in text.split(",")):
            raise UserError(f"{name} {text!r}: expected whole numbers with commas between, such as 64,256")
        numbers.append([int(part) for part in text.split(",")])
    with bar("calibrating") as progress:
        made = calibrate_on(data, out, sizes=numbers[0], contexts=numbers[1], frames=frames, progress=progress)
    print(f"{len(made.table)} tolerances in {out}")
