"""`wfm-sim check-actions`: thin over wfm_sim.evals.check_actions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from wfm_sim.errors import UserError

EXIT_MISMATCH = 1


def check_actions(
    subject: Annotated[
        str,
        typer.Argument(
            show_default=False,
            metavar="POLICY_OR_DATA",
            help="A policy's name, file.py:function or module:function that returns one; a data set's folder; or an "
            ".npz file with actions [N, T, A] and, where recorded, states [N, T+1, 7].",
        ),
    ] = "",
    world_model: Annotated[
        str, typer.Option(help="The model whose contract is to be met: a shipped one's name or a path.")
    ] = "nano-tabletop",
    contract: Annotated[
        str | None,
        typer.Option(help="What the actions are said to be written in: a contract's name or a .json file."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Of a data set.")] = None,
    episodes: Annotated[
        int | None, typer.Option(help="How many to look at (64 of a data set, 12 of a policy).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Chooses scenes.")] = 0,
    probe_model: Annotated[bool, typer.Option(help="Command the arm in the world model too.")] = True,
    fix: Annotated[bool, typer.Option("--fix", help="Print the code that mends, with its imports.")] = False,
    save_contract: Annotated[
        Path | None, typer.Option(help="Write the contract that the actions seem to be written in, for --contract.")
    ] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="Write the whole report.")] = None,
    contracts: Annotated[bool, typer.Option("--list", help="List the contracts known by name and stop.")] = False,
) -> int:
    """Find out whether a policy or data set writes the actions that a world model takes: 0 clean, 1 mismatch."""
    from wfm_sim.data.files import write_json
    from wfm_sim.evals import check_actions as checker

    if contracts:
        _list()
        return 0
    if not subject:
        raise UserError("name a policy or a data set to check (--list shows the contracts known by name)")
    report = checker.check_actions(
        subject, world_model, contract, split=split, episodes=episodes, seed=seed, probe_model=probe_model
    )
    print("\n".join(report.lines()))
    if fix and report.findings:
        print("\n" + (checker.fix_code(report) or "# nothing that a wrapper could mend"))
    if save_contract is not None:
        from wfm_sim.action_contract import save_contract as save

        save(report.source, save_contract)
    if as_json is not None:
        write_json(as_json, json.loads(json.dumps(report.to_json())))
    return 0 if report.clean else EXIT_MISMATCH


def _list() -> None:
    from wfm_sim.action_contract import CONTRACTS

    width = max(map(len, CONTRACTS))
    for contract in CONTRACTS.values():
        print(f"{contract.name:{width}}  {contract.summary()}" + (f"  ({contract.note})" if contract.note else ""))
