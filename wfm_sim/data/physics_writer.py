"""Writes the episodes of the physics data set (physics.py has the layout).

The videos are the ground truth that models are scored against: h264 with full colour resolution (yuv444p) at constant
rate factor 8, which for rendered scenes is above 40 dB PSNR to the frames as rendered (docs/physics_scoring.md).
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from wfm_sim.data.files import atomic_folder
from wfm_sim.data.physics import (
    EPISODE,
    FORMAT,
    MASKS,
    POSES,
    VERSION,
    Frame,
    Motion,
    Poses,
    View,
    episode_folder,
)
from wfm_sim.data.video import video_writer
from wfm_sim.errors import UserError

CRF = 8


def write_physics_episode(
    root: str | Path,
    scene_name: str,
    index: int,
    *,
    seed: int,
    fps: float,
    size: tuple[int, int],
    cameras: Sequence[View],
    scene: Mapping[str, Any],
    motion: Motion,
    render: Callable[[int, int], tuple[Frame, Frame]],
    before_done: Callable[[], None] = lambda: None,
) -> Path:
    """Write one episode; its folder appears when all of it is there.

    Args:
        root: The data set's folder.
        scene_name, index: Name and number: where it goes.
        seed: That the scene was built from.
        fps: Frames per second.
        size: (height, width) in pixels.
        cameras: One per view.
        scene: The scene as a dictionary of plain values.
        motion: T moments of N bodies, N <= 255.
        render: (view, frame) -> uint8 [H, W, 3] and uint8 [H, W] labels; called view by view.
        before_done: Called before the folder gets its name (a worker looks whether it is still wanted).

    Raises:
        UserError: more than 255 bodies.
    """
    if len(motion.names) > np.iinfo(np.uint8).max:
        raise UserError(f"{scene_name}: {len(motion.names)} dynamic bodies, masks can hold 255")
    frames = len(motion.times)
    about = {"format": FORMAT, "version": VERSION, "scene_name": scene_name, "index": index, "seed": seed, "fps": fps,
             "frames": frames, "size": list(size), "names": list(motion.names),
             "cameras": [{"name": c.name, "intrinsics": c.intrinsics.tolist(),
                          "world_to_camera": c.world_to_camera.tolist()} for c in cameras],
             "nodes": 0 if motion.nodes is None else motion.nodes.shape[1], "scene": scene}  # fmt: skip
    path = Path(root) / episode_folder(scene_name, index)
    with atomic_folder(path) as folder:
        (folder / EPISODE).write_text(json.dumps(about), encoding="utf-8")
        arrays = {f.name: getattr(motion, f.name) for f in fields(Poses) if f.name != "names"}
        np.savez_compressed(folder / POSES, **{name: array for name, array in arrays.items() if array is not None})
        with zipfile.ZipFile(folder / MASKS, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive:
            for view in range(len(cameras)):
                # An .npz is a zip of .npy files; frame by frame, a clip of 1080p need not fit into the memory.
                with (
                    video_writer(folder / f"view{view}.mp4", size, fps, CRF, full_colour=True) as add,
                    archive.open(f"view{view}.npy", "w", force_zip64=True) as masks,
                ):
                    header = {"descr": "|u1", "fortran_order": False, "shape": (frames, *size)}
                    np.lib.format.write_array_header_1_0(masks, header)
                    for t in range(frames):
                        image, mask = render(view, t)
                        add(image)
                        masks.write(np.ascontiguousarray(mask, dtype=np.uint8).tobytes())
        before_done()
    return path
