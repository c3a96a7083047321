"""`wfm-sim leaderboard ...`: thin over wfm_sim.evals.leaderboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup


class _BuildByDefault(TyperGroup):
    """`wfm-sim leaderboard DIR... -o SITE` is `wfm-sim leaderboard build DIR... -o SITE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["build", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_BuildByDefault,
    no_args_is_help=True,
    help="A static site that compares evaluations: `wfm-sim leaderboard DIR... -o SITE`.",
    rich_markup_mode=None,
)

Title = Annotated[str | None, typer.Option(help="Heading of the pages; kept for the next time.")]


@app.command()
def build(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="DIR...", help="Run folders, folders of such, or submission files.")
    ] = None,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="SITE", help="The site's folder; index.html is in it.")],
    title: Title = None,
) -> None:
    """Put runs and submissions on the board in SITE and write its pages. Without DIR the pages are written again."""
    from wfm_sim.evals.leaderboard import build

    found = build(folders or [], out, title=title)
    print(f"{len(found)} evaluation{'s' if len(found) != 1 else ''} in {out / 'index.html'}")


@app.command()
def add(
    site: Annotated[Path, typer.Argument(metavar="SITE", help="The leaderboard's folder.")],
    submission: Annotated[Path, typer.Argument(metavar="SUBMISSION", help="A submission's file, or a run folder.")],
    replace: Annotated[bool, typer.Option("--replace", help="Take the place of a submission of the same id.")] = False,
    title: Title = None,
) -> None:
    """Check a submission, add it to the board in SITE and write the pages again. A wrong one is refused."""
    from wfm_sim.evals.leaderboard import add

    for added in add(site, submission, replace=replace, title=title):
        print(f"{added.id}: added to {site / 'index.html'}")
