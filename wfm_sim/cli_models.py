"""The commands `wfm-sim models` (what there is) and `wfm-sim parity` (whether it is what was published)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

EXIT_NOT_REPRODUCED = 1


def models(
    name: Annotated[str | None, typer.Argument(help="One model in full; all of them without it.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="As JSON, for other programs.")] = False,
) -> None:
    """List the shipped world models and the published ones: size, what they take and need, where they come from."""
    import json

    from wfm_sim.errors import unknown
    from wfm_sim.models import shipped_weights
    from wfm_sim.models.published.registry import PRESETS

    shipped = shipped_weights()
    if name is not None:
        if name not in shipped and name not in PRESETS:
            raise unknown("model", name, [*shipped, *PRESETS])
        about = _shipped(name, shipped[name]) if name in shipped else _published(name)
        print(json.dumps(about, indent=2) if json_ else _in_full(about))
        return
    rows = [_shipped(key, path) for key, path in shipped.items()], [_published(key) for key in PRESETS]
    if json_:
        print(json.dumps([*rows[0], *rows[1]], indent=2))
        return
    for row in rows[0]:
        print(_in_full(row))
    _table(rows[1])


def _shipped(name: str, path: Path) -> dict[str, Any]:
    """A world model in assets/weights: its sizes, and what its file tells of its history and quality."""
    from wfm_sim.models import load

    model = load(path)
    spec = model.spec
    height, width = spec.frame_size
    return {
        "name": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "file": str(path),
        "megabytes": round(path.stat().st_size / 1e6, 1),
        "condition": spec.condition,
        "frames": f"{height}x{width} at {spec.fps:g} Hz, {spec.frames_per_step} a step, memory {spec.context_frames}",
        **model.metadata,
    }


def _published(name: str) -> dict[str, Any]:
    """A preset; where no weights were published, repository and files are None."""
    from wfm_sim.models.published.registry import PRESETS

    kind = PRESETS[name]
    return {
        "name": name,
        "parameters": kind.parameters,
        "family": kind.family,
        "inputs": kind.inputs,
        "text": kind.text or None,
        "gigabytes": round(kind.memory / 1e9, 1),
        "size": list(kind.size),
        "repository": kind.repository or None,
        "files": list(kind.files) if kind.repository else None,
        "or": list(kind.other_names) if kind.repository else None,
        "licence": kind.licence,
        "paper": kind.paper,
        "parity": list(kind.parity),
        "config": kind.config().to_dict(),
    }


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.3f}B" if parameters >= 1e9 else f"{parameters / 1e6:.2f}M"


_NEED = "GPU memory of one pass in bfloat16, estimated; the text encoder comes on top"


def _in_full(about: dict[str, Any]) -> str:
    import json

    lines = [f"{about['name']}: {_count(about['parameters'])} parameters"]
    for key, value in about.items():
        if key in ("name", "parameters") or value is None:
            continue
        said = value if isinstance(value, str) else json.dumps(value)
        lines.append(f"  {key}: {said}" + (f" ({_NEED})" if key == "gigabytes" else ""))
    if about.get("family") and about["repository"] is None:
        lines.append("  no weights of it were published")
    return "\n".join(lines)


def _table(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Published networks (their weights are yours to fetch; see docs/models.md)", box=None)
    for heading in ("preset", "parameters", "GB", "inputs", "text", "weights", "licence"):
        right = heading in ("parameters", "GB")
        table.add_column(heading, justify="right" if right else "left", no_wrap=right, overflow="fold")
    for row in rows:
        cells = (row["name"], _count(row["parameters"]), f"{row['gigabytes']:.1f}", row["inputs"], row["text"] or "-")
        table.add_row(*cells, row["repository"] or "not published", row["licence"] if row["repository"] else "-")
    console = Console()
    if not console.is_terminal:
        console = Console(width=240)  # a pipe has no width of its own: a preset a line
    console.print(table)
    console.print(f"GB: {_NEED}. `wfm-sim models NAME` shows one in full.", highlight=False)


def parity(
    folder: Annotated[Path, typer.Argument(help="Reference cases: .safetensors files with state.*, in.*, out.*.")],
    threads: Annotated[int, typer.Option(min=1, help="Threads of the CPU.")] = 1,
) -> int:
    """Compare our networks with the published ones, case by case; exits with 1 if one fails or is skipped."""
    import torch

    from wfm_sim.models.parity import run_folder

    torch.set_num_threads(threads)
    results = []
    width = max((len(p.stem) for p in folder.glob("*.safetensors")), default=0)
    for result in run_folder(folder):
        results.append(result)
        worst = result.worst
        if result.skipped:
            said = f"skipped  {result.skipped}"
        elif worst is None:
            said = f"FAILED   {result.failed or 'nothing was compared'}"
        else:
            verdict = "ok     " if result.passed else "FAILED "
            said = f"{verdict}  {worst.error:.1e} (limit {worst.limit:.0e})  {worst.output}"
        print(f"{result.name:{width}}  {result.seconds:6.2f} s  {said}", flush=True)
    passed, skipped = sum(r.passed for r in results), sum(bool(r.skipped) for r in results)
    errors = [r.worst.error for r in results if r.worst is not None]
    largest = f"largest error {max(errors):.1e}, " if errors else ""
    print(
        f"{passed} of {len(results)} reproduced, {len(results) - passed - skipped} failed, {skipped} skipped; "
        f"{largest}{sum(r.seconds for r in results):.1f} s"
    )
    return 0 if passed == len(results) else EXIT_NOT_REPRODUCED
