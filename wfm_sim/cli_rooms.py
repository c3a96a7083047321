"""`wfm-sim rooms ...`: furnished rooms for camera worlds and 3D consistency; thin over wfm_sim.evals.room_scenes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="Furnished rooms to walk through: data sets with exact cameras and depth.",
    rich_markup_mode=None,
)


@app.callback()
def _group() -> None:
    """Furnished rooms to walk through: data sets with exact cameras and depth."""


@app.command()
def generate(
    out: Annotated[Path, typer.Option(help="The data set's folder; the same command again resumes.")],
    scenes: Annotated[int, typer.Option(min=1, help="How many there should be in the end, each another room.")] = 100,
    seed: Annotated[int, typer.Option(help="Sets of different seeds share no room.")] = 0,
    frames: Annotated[int, typer.Option(help="Per scene.")] = 33,
    size: Annotated[tuple[int, int], typer.Option(help="Height and width of the frames in pixels.")] = (96, 128),
    motion: Annotated[str, typer.Option(help="walk (always parallax), joystick (single commands) or mixed.")] = "walk",
    fps: Annotated[float, typer.Option(help="Frames per second of a walk.")] = 10.0,
    fov: Annotated[float, typer.Option(help="Vertical field of view in degrees.")] = 60.0,
    supersample: Annotated[int, typer.Option(help="Samples per pixel along each axis.")] = 2,
    image_format: Annotated[str, typer.Option("--format", help="png or jpg.")] = "png",
    depth: Annotated[bool, typer.Option(help="Write depth too, as PNG of 16 bits in millimetres.")] = True,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0 takes one per core.")] = 0,
) -> None:
    """Render walks through rooms in the layout of DL3DV-10K: images_4/, depth_4/ and transforms.json."""
    import os

    from wfm_sim.evals.room_scenes import RoomSettings
    from wfm_sim.evals.room_scenes import generate as run
    from wfm_sim.progress import bar

    settings = RoomSettings(seed, frames, size, fps, fov, supersample, motion, image_format, depth)
    with bar("rendering rooms") as progress:
        result = run(out, scenes, settings, workers or os.cpu_count() or 1, progress)
    rate = f" ({result.written} new, {60 * result.written / max(result.seconds, 1e-9):.1f} a minute)"
    print(f"{result.scenes} scenes in {out}{rate if result.written else ''}")
