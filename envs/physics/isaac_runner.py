"""Runs inside Isaac Sim 5.1: opens a stage, steps it, writes poses and, for each camera, pictures and instance masks.

It imports nothing of wfm_sim: Isaac Sim starts its application before anything else may be imported, and may live in an
environment without it. Written after the public interface of 5.1 and not run here, for want of an RTX GPU.

    OMNI_KIT_ACCEPT_EULA=YES python isaac_runner.py STAGE.usda OUT --frames 100 --fps 24 --bodies /World/Dynamic/box0
        --size 1920 1080 --cameras view0 view1
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

RATE = 2400  # steps per second, as the stage says for PhysX elsewhere
WARM_UP = 16  # frames rendered before the first is kept, until textures and the ray tracer's history have settled


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--fps", type=float, default=24.0)
    parser.add_argument("--bodies", nargs="+", required=True, help="prim paths, in the order of the mask values")
    parser.add_argument("--size", nargs=2, type=int, default=(256, 256), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--cameras", nargs="*", default=[], help="names under /World/Cameras; none: poses only")
    return parser.parse_args(argv)


def mask_of(numbers: NDArray[Any], paths: Mapping[Any, str], bodies: Sequence[str]) -> NDArray[np.uint8]:
    """Replicator's instance numbers [H, W] as a mask: 0 background, i + 1 any prim at or below bodies[i].

    `paths`: number (Replicator gives them as text) -> prim path.
    """
    mask = np.zeros(numbers.shape, dtype=np.uint8)
    for number, path in paths.items():
        for i, body in enumerate(bodies):
            if path == body or path.startswith(f"{body}/"):
                mask[numbers == int(number)] = i + 1
    return mask


def main(argv: Sequence[str] | None = None) -> None:
    """Simulate and record."""
    options = parse(argv)
    from isaacsim import SimulationApp

    app = SimulationApp({"headless": True})
    # These exist only once the application runs.
    import omni.replicator.core as rep
    import omni.usd
    from isaacsim.core.api import World
    from isaacsim.core.prims import RigidPrim

    context = omni.usd.get_context()
    if not context.open_stage(str(options.stage.resolve())):
        raise SystemExit(f"cannot open {options.stage}")
    app.update()
    stage = context.get_stage()
    substeps = max(1, round(RATE / options.fps))
    world = World(physics_dt=1 / (options.fps * substeps), rendering_dt=1 / options.fps, stage_units_in_meters=1.0)
    recorders = {}
    for camera in options.cameras:
        path = f"/World/Cameras/{camera}"
        aperture = stage.GetPrimAtPath(path).GetAttribute("verticalAperture").Get()
        # The vertical field of view is the scene's; the width follows from the picture's shape.
        stage.GetPrimAtPath(path).GetAttribute("horizontalAperture").Set(aperture * options.size[0] / options.size[1])
        product = rep.create.render_product(path, tuple(options.size))
        # By prim and not by semantic class, so that no labels need to be authored.
        names = {"rgb": {}, "instance_id_segmentation": {"colorize": False}}
        recorders[camera] = {
            name: rep.AnnotatorRegistry.get_annotator(name, init_params=settings) for name, settings in names.items()
        }
        for annotator in recorders[camera].values():
            annotator.attach(product)
    world.reset()
    bodies = RigidPrim(prim_paths_expr="/World/Dynamic/*", name="bodies", reset_xform_properties=False)
    bodies.initialize()
    order = [list(bodies.prim_paths).index(path) for path in options.bodies]
    states: dict[str, list[NDArray[np.float64]]] = {"positions": [], "quaternions": [], "linear": [], "angular": []}
    for frame in range(options.frames):
        for _ in range(substeps if frame else 0):
            world.step(render=False)
        position, turn = bodies.get_world_poses()
        read = (position, turn, bodies.get_linear_velocities(), bodies.get_angular_velocities())
        for name, values in zip(states, read, strict=True):
            states[name].append(np.asarray(values, dtype=np.float64)[order])
        if recorders:
            for _ in range(WARM_UP if frame == 0 else 1):
                world.render()
            for camera, annotators in recorders.items():
                found = annotators["instance_id_segmentation"].get_data()
                mask = mask_of(found["data"], found["info"]["idToLabels"], options.bodies)
                (options.out / camera).mkdir(parents=True, exist_ok=True)
                picture = np.asarray(annotators["rgb"].get_data())[..., :3].astype(np.uint8)
                np.savez_compressed(options.out / camera / f"{frame:05d}.npz", rgb=picture, mask=mask)
    arrays: dict[str, Any] = {name: np.stack(values) for name, values in states.items()}
    np.savez(options.out / "poses.npz", **arrays)
    app.close()


if __name__ == "__main__":
    main()
