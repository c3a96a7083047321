"""The command line `wfm-sim`. Every command is a thin function that imports its implementation when it is called.

Bad input (a UserError, an unknown command or option) prints one sentence to stderr and exits with code 2; Ctrl-C exits
with code 130. Neither shows a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from wfm_sim import (
    cli_actions,
    cli_eval,
    cli_generate,
    cli_leaderboard,
    cli_models,
    cli_physics,
    cli_physics_engines,
    cli_physics_laws,
    cli_policies,
    cli_rooms,
    cli_train,
)
from wfm_sim.errors import UserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="wfm-sim",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


app.add_typer(cli_train.app, name="train")
app.add_typer(cli_eval.app, name="eval")
app.add_typer(cli_leaderboard.app, name="leaderboard")
app.add_typer(cli_physics.app, name="physics")
app.add_typer(cli_rooms.app, name="rooms")
cli_physics.app.command()(cli_physics_engines.agreement)
cli_physics.app.command()(cli_physics_engines.sheet)
cli_physics.app.command()(cli_physics_engines.export)
cli_physics.app.command()(cli_physics_laws.laws)
cli_physics.app.command()(cli_physics_laws.calibrate_laws)
app.command()(cli_eval.demo)
app.command()(cli_actions.check_actions)
app.command()(cli_models.models)
app.command()(cli_models.parity)
app.command()(cli_generate.generate)
app.command(name="serve-policy")(cli_policies.serve_policy)


@app.callback()
def _group() -> None:
    """World foundation models as Gymnasium environments, and evals that say how far to trust them."""


@app.command()
def collect(
    out: Annotated[Path, typer.Option(help="The data set's folder (Bridge/IRASim layout).")],
    episodes: Annotated[int, typer.Option(help="How many episodes there should be in the end.")] = 1000,
    seed: Annotated[int, typer.Option(help="Episode i follows from seed, split and i alone.")] = 0,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "train",
    workers: Annotated[int, typer.Option(help="Processes; 0 takes one per core.")] = 0,
    image_size: Annotated[int, typer.Option(help="Height and width of the frames in pixels.")] = 64,
) -> None:
    """Collect episodes in the physics twin: experts, flawed experts, random play. Run it again to resume."""
    import os

    from wfm_sim.progress import bar
    from wfm_sim.training.collect import CollectConfig, collect

    config = CollectConfig(seed=seed, split=split, image_size=image_size)
    with bar(f"collecting {split}") as progress:
        result = collect(out, episodes, config, workers or os.cpu_count() or 1, progress)
    print(
        f"{result.episodes} {split} episodes in {out} ({result.written} new"
        + (f", {result.steps_per_second:.0f} steps/s)" if result.written else ")")
    )


@app.command()
def info() -> None:
    """Print versions, the registered environments and where real data is looked for."""
    import platform

    import wfm_sim
    from wfm_sim.data.real import real_data_folder
    from wfm_sim.registration import ENVIRONMENTS

    folder = real_data_folder()
    print(f"wfm-sim {wfm_sim.__version__}, Python {platform.python_version()}, {platform.platform()}")
    print("environments: " + ", ".join(ENVIRONMENTS))
    print(f"real data: {folder}" + ("" if folder.is_dir() else " (absent; set WFM_SIM_REAL_DATA)"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. `argv` without the program name; None takes sys.argv."""
    try:
        result = app(args=list(sys.argv[1:] if argv is None else argv), prog_name="wfm-sim", standalone_mode=False)
        if result == EXIT_INTERRUPTED:  # typer turns a KeyboardInterrupt into this code, without a word
            return _stopped()
        return result if isinstance(result, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        return _stopped()
    except UserError as error:
        return _refuse(str(error))
    except typer.TyperException as error:
        return _refuse(error.format_message())
    except BrokenPipeError:  # the reader (head, less) went away
        sys.stderr.close()
        return 0


def _stopped() -> int:
    print("stopped; run the same command to resume", file=sys.stderr)
    return EXIT_INTERRUPTED


def _refuse(message: str) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return EXIT_USER_ERROR


if __name__ == "__main__":
    sys.exit(main())
