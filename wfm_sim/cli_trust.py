"""`wfm-sim train trust` and `wfm-sim eval trust`: thin over wfm_sim.training.trust and wfm_sim.evals.trust_run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

Model = Annotated[str, typer.Option("--world-model", help="A shipped model's name or the path of a .safetensors file.")]
Judge = Annotated[str, typer.Option(help="The success judge: a shipped one's name, a path, or none.")]


def train(
    data: Annotated[list[Path], typer.Option(help="A data set of `wfm-sim collect`; may be given again.")],
    world_model: Model = "nano-tabletop",
    out: Annotated[Path, typer.Option(help="The run's folder; the same command again resumes.")] = Path(
        "runs/train/trust"
    ),
    judge: Judge = "nano-tabletop-judge",
    episodes: Annotated[int | None, typer.Option(help="Recorded episodes to imagine, instead of the recipe's.")] = None,
    scenes: Annotated[int | None, typer.Option(help="Scenes in which the judge is exploited; 0 for none.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps, instead of the recipe's.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed, instead of the recipe's.")] = None,
) -> None:
    """Train and calibrate the trust network of a world model, from its rollouts on recorded episodes."""
    from wfm_sim.judge import load_judge
    from wfm_sim.models import load
    from wfm_sim.training.trust import TrustRecipe, train_trust

    given: dict[str, Any] = {"episodes": episodes, "scenes": scenes, "steps": steps, "seed": seed}
    recipe = replace(TrustRecipe(), **{k: v for k, v in given.items() if v is not None})
    chosen = None if judge == "none" else load_judge(judge)
    print(f"the trained trust: {train_trust(load(world_model), data, out, recipe, judge=chosen)}")


def evaluate(
    world_model: Model = "nano-tabletop",
    trust: Annotated[str, typer.Option(help="A shipped trust's name, a path, or auto: the model's own.")] = "auto",
    judge: Judge = "nano-tabletop-judge",
    episodes: Annotated[int, typer.Option(help="Held-out episodes of the physics twin.")] = 200,
    exploits: Annotated[int, typer.Option(help="Scenes in which the judge is exploited; 0 for none.")] = 24,
    candidates: Annotated[int, typer.Option(help="Chunks of actions that the exploiter chooses from.")] = 50,
    steps: Annotated[int, typer.Option(help="Horizon of the rollouts.")] = 24,
    batch: Annotated[int, typer.Option(help="Rollouts that are imagined at once.")] = 16,
    out: Annotated[
        Path, typer.Option(help="Folder for records, summary, tables and plot; run again to resume.")
    ] = Path("runs/eval/trust"),
    cache: Annotated[Path, typer.Option(help="Keeps the recorded episodes for the next run.")] = Path("runs/cache"),
) -> None:
    """Trust on held-out episodes: AUROC, calibration, steps to collapse, abstention, and an exploiter to be caught."""
    from wfm_sim.evals.trust_run import main

    main(
        world_model,
        trust=trust,
        judge=judge,
        episodes=episodes,
        exploits=exploits,
        candidates=candidates,
        steps=steps,
        batch=batch,
        out=out,
        cache=cache,
    )
