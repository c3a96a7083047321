"""`wfm-sim eval camera`: thin over wfm_sim.evals.camera_walks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wfm_sim.errors import UserError


def camera(
    data: Annotated[Path, typer.Option(help="Scenes with cameras that the model has not seen.")],
    world_model: Annotated[
        str, typer.Option("--world-model", help="A shipped camera world's name or the path of a .safetensors file.")
    ] = "nano-rooms",
    scenes: Annotated[int, typer.Option(help="Walks, one per scene.")] = 60,
    frames: Annotated[int, typer.Option(help="Of every walk, the given one included.")] = 16,
    loops: Annotated[int, typer.Option(help="Walks there and back; 0 for none.")] = 20,
    loop_steps: Annotated[int, typer.Option(help="Steps of each, an even number.")] = 200,
    loop_data: Annotated[Path | None, typer.Option(help="Scenes of the loops, with longer paths.")] = None,
    seed: Annotated[int, typer.Option(help="Of the model's noise.")] = 0,
    synthesis: Annotated[bool, typer.Option("--synthesis", help="Also score view synthesis.")] = False,
    workers: Annotated[int, typer.Option(help="Processes for structure from motion.")] = 1,
    out: Annotated[Path, typer.Option(help="The run's folder; the same command again resumes.")] = Path(
        "runs/eval/camera"
    ),
) -> None:
    """Walk through unseen scenes: SfM pose success and errors, PSNR, loop closure; beside the truth and baselines."""
    from wfm_sim.envs.worlds import load_camera_model
    from wfm_sim.evals.camera_walks import format_table, run
    from wfm_sim.progress import bar

    if scenes < 1 or frames < 3 or loops < 0 or workers < 1:
        raise UserError("--scenes and --workers must be at least 1, --frames at least 3, --loops at least 0")
    model = load_camera_model(world_model)
    with bar("walking") as progress:
        summary = run(
            model,
            data,
            out,
            scenes=scenes,
            frames=frames,
            loops=loops,
            loop_steps=loop_steps,
            loop_data=loop_data,
            seed=seed,
            synthesis=synthesis,
            workers=workers,
            progress=lambda what, done, of: progress(done, of),
        )
    print(format_table(summary))
    print(f"summary, records and pictures: {out}")
