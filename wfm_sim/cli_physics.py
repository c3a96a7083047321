"""`wfm-sim physics ...`: the physics-alignment benchmark; thin over wfm_sim.evals.physics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="Rigid-body scenes: generate them, and score video models on them.",
    rich_markup_mode=None,
)

Tracker = Annotated[str, typer.Option(help="colour (no weights) or sam2 (weights on the disk).")]
Workers = Annotated[int, typer.Option(help="Processes; 0 takes one per core.")]
Device = Annotated[str, typer.Option(help="Where models and weights compute: cpu, cuda, ...")]
Cache = Annotated[Path, typer.Option(help="Keeps the tracker's floor for the next run.")]


@app.command()
def generate(
    out: Annotated[Path, typer.Option(help="The data set's folder; the same command again resumes.")],
    scenes: Annotated[str, typer.Option(help="Names with commas between, or all.")] = "all",
    episodes: Annotated[int, typer.Option(help="Per scene.")] = 100,
    views: Annotated[int, typer.Option(help="Cameras per episode, 1 to 4.")] = 4,
    frames: Annotated[int, typer.Option(help="Per video.")] = 100,
    fps: Annotated[int, typer.Option(help="Frames per second.")] = 24,
    size: Annotated[str, typer.Option(help="Of the frames in pixels: 256 for a square, or WIDTHxHEIGHT.")] = "256",
    backend: Annotated[str, typer.Option(help="The engine: mujoco, physx or isaac.")] = "mujoco",
    seed: Annotated[int, typer.Option(help="Sets of different seeds share no episode.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes; 0 takes one per core.")] = 0,
    extensions: Annotated[bool, typer.Option("--extensions", help="Let 'all' take the extension set too.")] = False,
) -> None:
    """Simulate and render episodes: videos, instance masks, poses and a manifest with a hash of every file."""
    import os

    from wfm_sim.evals.physics.generate import GenerateSettings, choose_scenes
    from wfm_sim.evals.physics.generate import generate as run
    from wfm_sim.progress import bar

    settings = GenerateSettings(
        scenes=choose_scenes(scenes, extensions),
        episodes=episodes,
        views=views,
        frames=frames,
        fps=fps,
        size=parse_size(size),
        backend=backend,
        seed=seed,
    )
    with bar("generating") as progress:
        result = run(out, settings, workers or os.cpu_count() or 1, progress)
    rate = f" ({result.written} new, {60 * result.written / max(result.seconds, 1e-9):.1f} a minute)"
    print(f"{result.episodes} episodes in {out}{rate if result.written else ''}, {result.hash}")


@app.command()
def verify(data: Annotated[Path, typer.Argument(help="The data set's folder.")]) -> None:
    """Compare every file of a data set with the hash in its manifest."""
    from wfm_sim.errors import UserError
    from wfm_sim.evals.physics.generate import verify as run

    wrong = run(data)
    if wrong:
        raise UserError(f"{data}: {len(wrong)} files are missing or changed, the first is {wrong[0]}")
    print(f"{data}: every file is as the manifest says")


@app.command()
def floor(
    data: Annotated[Path, typer.Argument(help="The data set's folder.")],
    tracker: Tracker = "colour",
    frames: Annotated[int, typer.Option(help="Of each video.")] = 33,
    episodes: Annotated[int | None, typer.Option(help="Of each scene, instead of all.")] = None,
    workers: Workers = 0,
    device: Device = "cpu",
    cache: Cache = Path("runs/cache"),
) -> None:
    """The tracker's IoU on the ground truth: no IoU of a model can mean more than that."""
    import os

    from wfm_sim.evals.physics.floor import format_floor, measure
    from wfm_sim.evals.physics.trackers import load_tracker
    from wfm_sim.progress import bar

    with bar("tracking the truth") as progress:
        found = measure(
            data,
            tracker=tracker,
            frames=frames,
            episodes=episodes,
            workers=workers or os.cpu_count() or 1,
            device=device,
            cache=cache,
            progress=progress,
        )
    print(format_floor(found, load_tracker(tracker).name))


@app.command()
def score(
    model: Annotated[
        str,
        typer.Argument(
            help="truth, repeat-last, flow, data:DIR, a folder of videos, module:function, or a model of ours."
        ),
    ],
    data: Annotated[Path, typer.Option(help="The data set's folder.")],
    out: Annotated[Path, typer.Option(help="The run's folder; the same command again resumes.")],
    context: Annotated[int, typer.Option(help="Frames that are given: 9 or 1.")] = 9,
    frames: Annotated[int, typer.Option(help="Of a clip, the given ones included.")] = 33,
    seeds: Annotated[int, typer.Option(help="Predictions per video, where the model has any randomness.")] = 4,
    scenes: Annotated[str, typer.Option(help="Names with commas between, or all.")] = "all",
    episodes: Annotated[int | None, typer.Option(help="Of each scene, instead of all.")] = None,
    views: Annotated[int | None, typer.Option(help="Of each episode, instead of all.")] = None,
    tracker: Tracker = "colour",
    dreamsim: Annotated[bool, typer.Option(help="Score DreamSim where its weights are on the disk.")] = True,
    videos: Annotated[bool, typer.Option("--videos", help="Keep the predicted clips.")] = False,
    workers: Workers = 0,
    device: Device = "cpu",
    cache: Cache = Path("runs/cache"),
) -> None:
    """Predict and score: PSNR, SSIM, DreamSim and object IoU, per scene, with intervals. Run it again to resume."""
    import os

    from wfm_sim.evals.physics.score import ScoreSettings, Selection
    from wfm_sim.evals.physics.score import score as run
    from wfm_sim.evals.physics.summary import format_run
    from wfm_sim.progress import bar

    names = None if scenes == "all" else tuple(name.strip() for name in scenes.split(",") if name.strip())
    with bar(f"scoring {model}") as progress:
        summary = run(
            model,
            data,
            out,
            ScoreSettings(context, frames, tracker, dreamsim, seeds, videos),
            Selection(names, episodes, views),
            workers=workers or os.cpu_count() or 1,
            device=device,
            cache=cache,
            progress=progress,
        )
    print(format_run(summary))


@app.command()
def table(
    runs: Annotated[list[Path], typer.Argument(help="Folders of `wfm-sim physics score`, one row each.")],
) -> None:
    """Several runs in one table, laid out as Table 20 of the Cosmos paper."""
    from wfm_sim.evals.physics.summary import format_table, read_summary

    print(format_table([read_summary(run) for run in runs]))


@app.command()
def show(
    run: Annotated[Path, typer.Argument(help="A finished folder of `wfm-sim physics score`.")],
    data: Annotated[Path, typer.Option(help="The data set that it scored.")],
    model: Annotated[str | None, typer.Option(help="What it scored, where that was named by a path.")] = None,
    episodes: Annotated[int, typer.Option(help="Of each scene.")] = 1,
    device: Device = "cpu",
) -> None:
    """Clips of truth, prediction, difference and masks, a 3D recording, and a submission to the leaderboard."""
    from wfm_sim.errors import UserError
    from wfm_sim.evals.physics.showing import RECORDING
    from wfm_sim.evals.physics.showing import show as run_show
    from wfm_sim.progress import bar

    if episodes < 1:
        raise UserError(f"episodes must be at least 1, not {episodes}")
    with bar("showing") as progress:
        found = run_show(run, data, model=model, episodes=episodes, device=device, progress=progress)
    print(f"{len(found.clips)} clips, {RECORDING} and submission.json in {run}")


def parse_size(text: str) -> tuple[int, int]:
    """'256' -> (256, 256), '1920x1080' -> (1080, 1920): (height, width). UserError for anything else."""
    from wfm_sim.errors import UserError

    width, times, height = text.lower().partition("x")
    if not (width.isdigit() and (height.isdigit() if times else not height)):
        raise UserError(f"size {text!r}: expected pixels, such as 256 or WIDTHxHEIGHT, such as 1920x1080")
    return int(height or width), int(width)
