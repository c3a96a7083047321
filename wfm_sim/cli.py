"""The command line `wfm-sim`. Every command is a thin function that imports its implementation when it is called.

Bad input (a UserError, an unknown command or option) prints one sentence to stderr and exits with code 2; Ctrl-C exits
with code 130. Neither shows a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from wfm_sim.errors import UserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="wfm-sim",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@app.callback()
def _group() -> None:
    """World foundation models as Gymnasium environments, and evals that say how far to trust them."""


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
        return result if isinstance(result, int) else 0
    except (KeyboardInterrupt, typer.Abort):
        print("stopped; run the same command to resume", file=sys.stderr)
        return EXIT_INTERRUPTED
    except UserError as error:
        return _refuse(str(error))
    except typer.TyperException as error:
        return _refuse(error.format_message())
    except BrokenPipeError:  # the reader (head, less) went away
        sys.stderr.close()
        return 0


def _refuse(message: str) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return EXIT_USER_ERROR


if __name__ == "__main__":
    sys.exit(main())
