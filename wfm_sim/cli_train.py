"""`wfm-sim train ...`: the training commands, thin over wfm_sim.training.recipes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wfm_sim import cli_trust
from wfm_sim.errors import UserError, unknown

if TYPE_CHECKING:
    from wfm_sim.training.loop import LoopConfig

app = typer.Typer(
    no_args_is_help=True,
    help="Train a tokenizer, an action-conditioned simulator, the judge or a policy.",
    rich_markup_mode=None,
)

Data = Annotated[Path, typer.Option(help="A data set in any layout that `open_dataset` reads.")]
Steps = Annotated[int | None, typer.Option(help="Optimiser steps, instead of the recipe's.")]
Ranks = Annotated[int | None, typer.Option(help="Processes, instead of the recipe's.")]
Seed = Annotated[int | None, typer.Option(help="Seed, instead of the recipe's.")]


def _override(loop: LoopConfig, steps: int | None, ranks: int | None, seed: int | None) -> LoopConfig:
    given = {"steps": steps, "ranks": ranks, "seed": seed}
    return replace(loop, **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]


def _about(recipe: Any, name: str) -> dict[str, Any]:
    loop = recipe.loop
    return {
        "recipe": name,
        "data": recipe.data.name,
        "seed": loop.seed,
        "lr": loop.lr,
        "ranks": loop.ranks,
        "batch": recipe.batch,
    }


@app.command()
def tokenizer(
    data: Data,
    out: Annotated[Path, typer.Option(help="The run's folder; the same command again resumes.")] = Path(
        "runs/train/tokenizer"
    ),
    recipe: Annotated[str, typer.Option(help="nano or debug.")] = "nano",
    init: Annotated[
        str | None, typer.Option("--from", help="World model (name or file) whose tokenizer is tuned.")
    ] = None,
    steps: Steps = None,
    ranks: Ranks = None,
    seed: Seed = None,
) -> None:
    """Train the image tokenizer. Writes checkpoints, metrics.jsonl, sample strips and model.safetensors to --out."""
    from functools import partial

    from wfm_sim.training.loop import launch
    from wfm_sim.training.recipes import tokenizer_recipe
    from wfm_sim.training.tokenizer import TokenizerTask, prepare

    chosen = tokenizer_recipe(recipe)(data, out)
    chosen = replace(chosen, loop=_override(chosen.loop, steps, ranks, seed), init=init)
    chosen = prepare(chosen)
    launch(partial(_task, TokenizerTask, chosen), chosen.loop, out, _about(chosen, recipe))


@app.command()
def objects(
    data: Data,
    out: Annotated[Path, typer.Option(help="The run's folder; the same command again resumes.")] = Path(
        "runs/train/objects"
    ),
    recipe: Annotated[str, typer.Option(help="nano or debug.")] = "nano",
    init: Annotated[str, typer.Option("--from", help="World model (name or file) that gets the memory.")] = (
        "nano-tabletop"
    ),
    steps: Steps = None,
    ranks: Ranks = None,
    seed: Seed = None,
) -> None:
    """Train a simulator's memory of objects: what the given frame shows, how it moves, and how it is painted in."""
    from wfm_sim.training.objects import train_objects
    from wfm_sim.training.recipes import objects_recipe

    chosen = objects_recipe(recipe)(data, out)
    chosen = replace(
        chosen,
        init=init,
        reader=_override(chosen.reader, steps, ranks, seed),
        dynamics=_override(chosen.dynamics, steps, ranks, seed),
        painter=_override(chosen.painter, steps, ranks, seed),
    )
    print(f"the simulator with its memory: {train_objects(chosen)}")


@app.command()
def action(
    data: Data,
    out: Annotated[Path, typer.Option(help="The run's folder; the same command again resumes.")] = Path(
        "runs/train/action"
    ),
    recipe: Annotated[
        str | None,
        typer.Option(help="nano, nano-forcing, bridge, rigid or debug; default bridge with --from, else nano."),
    ] = None,
    init: Annotated[
        str | None, typer.Option("--from", help="World model (name or file) that training starts from.")
    ] = None,
    hold_out: Annotated[list[str] | None, typer.Option(help="Episode id to leave out; may be given again.")] = None,
    steps: Steps = None,
    ranks: Ranks = None,
    seed: Seed = None,
) -> None:
    """Train the action-conditioned simulator, or post-train one on other data."""
    from functools import partial

    from wfm_sim.training.action import ActionTask
    from wfm_sim.training.action_recipe import prepare
    from wfm_sim.training.loop import launch
    from wfm_sim.training.recipes import action_recipe

    name = recipe or ("bridge" if init else "nano")
    chosen = action_recipe(name)(data, out)
    chosen = replace(
        chosen,
        loop=_override(chosen.loop, steps, ranks, seed),
        init=init or chosen.init,
        hold_out=tuple(hold_out or chosen.hold_out),
    )
    chosen = prepare(chosen)
    launch(partial(_task, ActionTask, chosen), chosen.loop, out, _about(chosen, name))
    print(f"the trained simulator: {out / 'model.safetensors'}")


@app.command()
def video(
    data: Annotated[Path, typer.Option(help="A folder of videos, such as `wfm-sim physics generate` writes.")],
    out: Annotated[Path, typer.Option(help="The run's folder; the same command again resumes.")] = Path(
        "runs/train/video"
    ),
    recipe: Annotated[str, typer.Option(help="nano, nano-small or debug.")] = "nano",
    init: Annotated[
        str | None, typer.Option("--from", help="Video model (name or file) whose tokenizer is taken over.")
    ] = None,
    init_net: Annotated[bool, typer.Option("--init-net", help="Take over its network too, and train on.")] = False,
    start: Annotated[list[int] | None, typer.Option(help="Frame where clips begin; may be given again.")] = None,
    steps: Steps = None,
    ranks: Ranks = None,
    seed: Seed = None,
) -> None:
    """Train a Video2World model: 33 frames from 1 or 9. One folder in forty is held out for validation."""
    from functools import partial

    from wfm_sim.training.loop import launch
    from wfm_sim.training.recipes import video_recipe
    from wfm_sim.training.video import VideoTask, prepare

    if init_net and init is None:
        raise UserError("--init-net takes over the network of a model: name it with --from")
    chosen = video_recipe(recipe)(data, out)
    chosen = replace(
        chosen,
        loop=_override(chosen.loop, steps, ranks, seed),
        init=init,
        init_net=init_net,
        starts=tuple(start or chosen.starts),
    )
    chosen = prepare(chosen)
    launch(partial(_task, VideoTask, chosen), chosen.loop, out, _about(chosen, recipe))
    print(f"the trained model: {out / 'model.safetensors'}")


@app.command()
def camera(
    data: Annotated[Path, typer.Option(help="Clips with cameras: DL3DV/nerfstudio, RealEstate10K, COLMAP.")],
    out: Annotated[Path, typer.Option(help="The run's folder; the same command again resumes.")] = Path(
        "runs/train/camera"
    ),
    recipe: Annotated[str, typer.Option(help="nano, rays, rays-block, published or debug.")] = "nano",
    init: Annotated[
        str | None,
        typer.Option(
            "--from", help="Camera world (name or file) to train on from, or a published Video2World network."
        ),
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help='Of a published network: its file or folder, or "random".')
    ] = None,
    rays: Annotated[str, typer.Option(help="How a published network is told them: concat or block.")] = "concat",
    size: Annotated[tuple[int, int], typer.Option(help="Height and width, of a published network.")] = (256, 320),
    steps: Steps = None,
    ranks: Ranks = None,
    seed: Seed = None,
) -> None:
    """Train a camera-conditioned simulator: tokenizer and depth are tuned first, then the denoiser is trained."""
    from functools import partial

    from wfm_sim.training.camera import CameraTask
    from wfm_sim.training.camera_recipe import prepare
    from wfm_sim.training.loop import launch
    from wfm_sim.training.recipes import camera_recipe

    if rays not in ("concat", "block"):
        raise unknown("way to tell rays", rays, ("concat", "block"))
    chosen = camera_recipe(recipe)(data, out)
    given: dict[str, Any] = {"ranks": ranks, "seed": seed}
    given = {k: v for k, v in given.items() if v is not None}
    chosen = replace(
        chosen,
        loop=_override(chosen.loop, steps, ranks, seed),
        tokenizer=replace(chosen.tokenizer, **given),
        depth=replace(chosen.depth, **given),
        init=init or chosen.init,
        checkpoint=checkpoint,
        rays=rays,  # type: ignore[arg-type]
        frame_size=size,
    )
    chosen = prepare(chosen)
    launch(partial(_task, CameraTask, chosen), chosen.loop, out, _about(chosen, recipe))
    print(f"the trained simulator: {out / 'model.safetensors'}")


@app.command()
def judge(
    data: Data,
    out: Annotated[Path, typer.Option(help="The run's folder; the same command again resumes.")] = Path(
        "runs/train/judge"
    ),
    steps: Steps = None,
    seed: Seed = None,
) -> None:
    """Train the pixel judge (success and progress) on collected episodes with a train and a val split."""
    from wfm_sim.training.judge import JudgeRecipe, train_judge

    given: dict[str, Any] = {"steps": steps, "seed": seed}
    recipe = replace(JudgeRecipe(), **{k: v for k, v in given.items() if v is not None})
    print(f"the trained judge: {train_judge(data, out, recipe)}")


@app.command()
def policy(
    data: Data,
    form: Annotated[str, typer.Option(help="What it sees: state (pose and layout) or pixels.")] = "state",
    out: Annotated[
        Path | None, typer.Option(help="The run's folder; the same command again resumes. Default runs/train/bc-FORM.")
    ] = None,
    episodes: Annotated[
        int, typer.Option(help="Episodes of the twin per task in which each stage is measured; 0 for none.")
    ] = 60,
    steps: Steps = None,
    seed: Seed = None,
) -> None:
    """Train a policy by behaviour cloning on collected experts' episodes; keeps one file per stage of training."""
    from wfm_sim.policies.cloning_network import FORMS
    from wfm_sim.progress import bar
    from wfm_sim.training.cloning import RECIPES, train_policy
    from wfm_sim.training.cloning_success import measure_success

    if form not in FORMS:
        raise unknown("form of policy", form, FORMS)
    if episodes < 0:
        raise UserError(f"--episodes must be 0 or more, not {episodes}")
    given: dict[str, Any] = {"steps": steps, "seed": seed}
    recipe = replace(RECIPES[form], **{k: v for k, v in given.items() if v is not None})
    with bar("reading episodes") as progress:
        paths = train_policy(data, out or Path(f"runs/train/bc-{form}"), form, recipe, progress)
    counts: dict[Path, dict[str, list[int]]] = {}
    if episodes:
        with bar("measuring success") as progress:
            counts = measure_success(paths, episodes, progress=progress)
    for path in paths:
        told = ", ".join(f"{task} {won}/{of}" for task, (won, of) in counts.get(path, {}).items())
        print(f"{path}" + (f": success in the twin {told}" if told else ""))


@app.command()
def ship(
    model: Annotated[Path, typer.Option(help="model.safetensors of a finished run.")],
    name: Annotated[str, typer.Option(help="What `gym.make` and --world-model will call it.")],
    quality: Annotated[
        list[Path],
        typer.Option(help="summary.json of eval nano, eval camera or physics score; may be given again."),
    ],
    history: Annotated[str, typer.Option(help="How it came to be: commands, data seed, machine.")],
    fps: Annotated[float | None, typer.Option(help="Frames per second, instead of the model's.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the weights.")] = Path("assets/weights"),
) -> None:
    """Name a trained simulator, and keep its history and measured quality inside its file."""
    from wfm_sim.training.ship import ship as write

    print(f"shipped: {write(model, name, quality, history, out, fps=fps)}")


@app.command("ship-policy")
def ship_policy(
    policies: Annotated[list[Path], typer.Argument(help="stage-N.safetensors of a finished and measured run.")],
    history: Annotated[str, typer.Option(help="How they came to be: commands, data seed, machine.")],
    out: Annotated[Path, typer.Option(help="Folder of the weights.")] = Path("assets/weights"),
) -> None:
    """Name cloned policies bc-FORM-STAGE, and keep their history beside recipe and success inside their files."""
    from wfm_sim.training.cloning_ship import ship_policies

    for path in ship_policies(policies, history, out):
        print(f"shipped: {path}")


app.command("trust")(cli_trust.train)


# Module-level, so that it can be pickled for the processes of a run with several ranks.
def _task(kind: Any, recipe: Any, rank: int) -> Any:
    return kind(recipe)
