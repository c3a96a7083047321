"""`wfm-sim physics agreement`, `sheet` and `export`: thin over assets/physics, envs/physics and evals/physics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Scenes = Annotated[str, typer.Option(help="Names with commas between, all, or extensions.")]
Seeds = Annotated[int, typer.Option(help="How many: 0, 1, ...")]


def agreement(
    scenes: Scenes = "all",
    seeds: Seeds = 8,
    engines: Annotated[str, typer.Option(help="Names with commas between.")] = "mujoco,physx",
    out: Annotated[Path | None, typer.Option(help="A JSON file with every reading.")] = None,
) -> None:
    """Compare the engines with theory and with each other, scene by scene. Exit code 1 if a promise is broken."""
    import dataclasses

    from wfm_sim.data.files import write_json
    from wfm_sim.evals.physics.agreement import agreement as run
    from wfm_sim.evals.physics.agreement import table
    from wfm_sim.evals.physics.agreement_table import print_table
    from wfm_sim.progress import bar

    names = choose(scenes)
    with bar("simulating") as progress:
        done = 0

        def step(_: str) -> None:
            nonlocal done
            done += 1
            progress(done, len(names))

        readings = run(names, range(seeds), engines.split(","), step)
    rows = table(readings)
    print_table(rows)
    if out:
        write_json(out, {"readings": [dataclasses.asdict(reading) for reading in readings]})
    if any(row.kept is False for row in rows):
        raise typer.Exit(1)


def sheet(
    out: Annotated[Path, typer.Option(help="The folder; one PNG per scene.")] = Path("runs/physics/sheets"),
    scenes: Scenes = "all",
    seeds: Seeds = 2,
    size: Annotated[int, typer.Option(help="Of each picture in pixels.")] = 192,
    backend: Annotated[str, typer.Option(help="The engine: mujoco, physx or isaac.")] = "mujoco",
    masks: Annotated[bool, typer.Option("--masks", help="Outline every object's mask.")] = False,
) -> None:
    """Write contact sheets of every scene and camera."""
    from wfm_sim.evals.physics.sheet import contact_sheets

    contact_sheets(out, choose(scenes), range(seeds), size, backend, masks, print)


def export(
    scene: Annotated[str, typer.Argument(help="A scene's name.")],
    seed: Annotated[int, typer.Option(help="The scene of that seed.")] = 0,
    out: Annotated[Path, typer.Option(help="The folder of the stage and its textures.")] = Path("runs/physics/usd"),
) -> None:
    """Write a scene as USD (UsdPhysics), for PhysX, Isaac Sim or any viewer, and validate it."""
    from wfm_sim.assets.physics import build
    from wfm_sim.assets.physics.usd import validate, write_usd

    path = write_usd(build(scene, seed), out)
    faults = validate(path)
    print("\n".join([f"{path}: {'valid' if not faults else f'{len(faults)} faults'}", *faults]))


def choose(scenes: str) -> tuple[str, ...]:
    """'all' -> the eight scenes, 'extensions' -> the extension set, 'a,b' -> those. UserError for an unknown one."""
    from wfm_sim.assets.physics import AUTHORS, EXTENSIONS, SCENES
    from wfm_sim.errors import unknown

    if scenes == "all":
        return SCENES
    if scenes == "extensions":
        return EXTENSIONS
    names = tuple(name.strip() for name in scenes.split(","))
    for name in names:
        if name not in AUTHORS:
            raise unknown("physics scene", name, (*AUTHORS, "all", "extensions"))
    return names
