"""`wfm-sim eval judge`: thin over wfm_sim.evals.judge_eval_run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def evaluate(
    judge: Annotated[
        str, typer.Option(help="A shipped judge's name, a path, or openai:MODEL@http://host:port/v1.")
    ] = "nano-tabletop-judge",
    world_model: Annotated[
        str, typer.Option("--world-model", help="Whose imagined frames are judged: a shipped name or a path.")
    ] = "nano-tabletop",
    episodes: Annotated[int, typer.Option(help="Held-out episodes of the physics twin, per task.")] = 300,
    imagined: Annotated[int, typer.Option(help="Of these, how many are imagined too, over all tasks; 0: none.")] = 200,
    sheet: Annotated[int, typer.Option(help="Imagined frames on the contact sheets.")] = 200,
    batch: Annotated[int, typer.Option(help="Rollouts that are imagined at once.")] = 16,
    write: Annotated[
        bool, typer.Option("--write", help="Put the confusion matrix where `wfm-sim eval policy` finds it.")
    ] = False,
    max_requests: Annotated[int, typer.Option(help="A remote judge is not asked more often than this.")] = 5000,
    out: Annotated[Path, typer.Option(help="Folder for records, summary, table and sheets.")] = Path("runs/eval/judge"),
    cache: Annotated[Path, typer.Option(help="Keeps episodes, rollouts and answers for the next run.")] = Path(
        "runs/cache"
    ),
) -> None:
    """How often the judge of success is wrong: on held-out frames and episodes of the twin, and on imagined frames."""
    from wfm_sim.evals.judge_eval_run import main

    main(
        judge,
        world_model=world_model,
        episodes=episodes,
        imagined=imagined,
        sheet=sheet,
        batch=batch,
        write=write,
        max_requests=max_requests,
        out=out,
        cache=cache,
    )
