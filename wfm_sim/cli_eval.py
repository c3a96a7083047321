"""`wfm-sim demo` and `wfm-sim eval ...`: thin over wfm_sim.evals."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from wfm_sim import cli_camera, cli_consistency, cli_judge, cli_trust

app = typer.Typer(no_args_is_help=True, help="Judge a world model.", rich_markup_mode=None)

Model = Annotated[str, typer.Option("--world-model", help="A shipped model's name or the path of a .safetensors file.")]
Judge = Annotated[
    str,
    typer.Option(help="The success judge: a shipped one's name, a path, openai:MODEL@URL, or none."),
]


def demo(
    world_model: Model = "nano-tabletop",
    judge: Judge = "nano-tabletop-judge",
    episodes: Annotated[int, typer.Option(help="Scenes per policy and task, the same in both worlds.")] = 16,
    seed: Annotated[int, typer.Option(help="Chooses the scenes; the same seed gives the same table.")] = 0,
    num_envs: Annotated[int, typer.Option(help="Rollouts that are imagined at once.")] = 16,
    workers: Annotated[int | None, typer.Option(help="Processes for the physics twin.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for table, report and recording.")] = Path("runs/demo"),
) -> None:
    """Run five policies in the learned simulator and in its physics twin, and write a report."""
    from wfm_sim.evals.demo import main

    main(world_model, judge=judge, episodes=episodes, seed=seed, num_envs=num_envs, workers=workers, out=out)


@app.command()
def nano(
    world_model: Model = "nano-tabletop",
    judge: Judge = "nano-tabletop-judge",
    episodes: Annotated[int, typer.Option(help="Held-out episodes of the physics twin.")] = 200,
    steps: Annotated[int, typer.Option(help="Horizon of the open-loop rollouts.")] = 24,
    batch: Annotated[int, typer.Option(help="Rollouts that are imagined at once.")] = 16,
    out: Annotated[Path, typer.Option(help="Folder for records, summary, table and strips.")] = Path("runs/eval/nano"),
    cache: Annotated[Path, typer.Option(help="Keeps the recorded episodes for the next run.")] = Path("runs/cache"),
) -> None:
    """The gates of a tabletop model: object position and loss, success agreement, PSNR and SSIM, with intervals."""
    from wfm_sim.evals.nano_gates import main

    main(world_model, judge=judge, episodes=episodes, steps=steps, batch=batch, out=out, cache=cache)


@app.command()
def replay(
    world_model: Annotated[list[str], typer.Option(help="Name or path; once per model, e.g. before and after.")],
    data: Annotated[Path, typer.Option(help="A data set in any layout that `open_dataset` reads.")],
    episode: Annotated[str, typer.Option(help="Position (negative: from the end) or id of a held-out episode.")] = "0",
    split: Annotated[str | None, typer.Option(help="Of the data set.")] = None,
    horizon: Annotated[int, typer.Option(help="Steps per window.")] = 8,
    label: Annotated[list[str] | None, typer.Option(help="What to call each model.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for summary, strip and recording.")] = Path("runs/eval/replay"),
) -> None:
    """Start from a real frame, replay the recorded actions, and compare with the video and with repeating the frame."""
    from wfm_sim.evals.replay import main

    main(world_model, data, episode=episode, split=split, horizon=horizon, labels=label, out=out)


@app.command()
def policy(
    policies: Annotated[
        str, typer.Option(help="Names, with commas between; your own as my_package.my_module:make_policy.")
    ] = "zero,random,expert-noise0.8,expert-noise0.4,expert",
    world_model: Model = "nano-tabletop",
    judge: Judge = "nano-tabletop-judge",
    tasks: Annotated[str, typer.Option(help="push, pick, place, with commas between.")] = "push,pick,place",
    episodes: Annotated[
        int, typer.Option(help="Scenes per policy and task, the same for all and in both worlds.")
    ] = 16,
    twin: Annotated[bool, typer.Option(help="Run the same episodes in the physics twin.")] = True,
    seed: Annotated[int, typer.Option(help="Chooses the scenes.")] = 0,
    num_envs: Annotated[int, typer.Option(help="Rollouts that are imagined at once.")] = 16,
    workers: Annotated[int | None, typer.Option(help="Processes for the physics twin.")] = None,
    clips: Annotated[int, typer.Option(help="Clips per policy, disagreements of the two worlds first.")] = 2,
    trust_threshold: Annotated[float, typer.Option(help="Episodes whose trust fell below it are left out.")] = 0.5,
    ray: Annotated[
        str | None, typer.Option(help="Run on many machines: a Ray cluster's address, auto, or local.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The run's folder; the same command again resumes.")] = Path("runs/policy"),
) -> None:
    """Success of policies in a world model and in its physics twin, with intervals. Run it again to resume."""
    from wfm_sim.evals.policy_run import main

    main(
        [name.strip() for name in policies.split(",") if name.strip()],
        world_model=world_model,
        judge=judge,
        tasks=[name.strip() for name in tasks.split(",") if name.strip()],
        episodes=episodes,
        seed=seed,
        twin=twin,
        num_envs=num_envs,
        workers=workers,
        clips=clips,
        trust_threshold=trust_threshold,
        ray=ray,
        out=out,
    )


app.command("judge")(cli_judge.evaluate)
app.command("consistency")(cli_consistency.evaluate)
app.command("trust")(cli_trust.evaluate)
app.command("camera")(cli_camera.camera)
