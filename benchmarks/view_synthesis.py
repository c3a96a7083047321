"""CPU seconds of view synthesis per 16-frame clip of a generated room: `python benchmarks/view_synthesis.py`.

Cameras are exact and points come from the renderer's depth, so that only the fit is measured; with --warp the frames
are those of no rigid scene, which must score worse.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from wfm_sim.assets.rooms import build_room, walk
from wfm_sim.camera import Intrinsics
from wfm_sim.envs.rooms import RoomRenderer
from wfm_sim.evals.consistency.corruptions import rubber_sheet
from wfm_sim.evals.consistency.synthesis import synthesise

POINTS = 2000  # about what SfM finds on such a clip


def main() -> None:
    """Print one line per room, and the means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rooms", type=int, default=3)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, nargs=2, default=[240, 320], metavar=("H", "W"))
    parser.add_argument("--iterations", type=int, default=600)
    parser.add_argument("--warp", type=float, default=0.0, help="pixels of rubber sheet, root mean square")
    arguments = parser.parse_args()
    rows = []
    for seed in range(arguments.rooms):
        frames, poses, points, colours, intrinsics = clip(seed, arguments.frames, tuple(arguments.size))
        if arguments.warp:
            frames = rubber_sheet(frames, arguments.warp)
        found = synthesise(frames, poses, points, colours, intrinsics, iterations=arguments.iterations)
        rows.append((found.seconds, found.psnr, found.ssim))
        inner = [view.psnr for view in found.per_view[1:]]
        print(
            f"room {seed}: {found.seconds:5.1f} CPU s  PSNR {found.psnr:.2f} dB (first frame "
            f"{found.per_view[0].psnr:.2f}, the others {np.mean(inner):.2f})  SSIM {found.ssim:.4f}  "
            f"{len(found.gaussians)} Gaussians at {found.size[1]}x{found.size[0]}, {found.backend}",
            flush=True,
        )
    seconds, psnr, ssim = np.mean(rows, axis=0)
    print(f"mean: {seconds:.1f} CPU s  PSNR {psnr:.2f} dB  SSIM {ssim:.4f}")


def clip(
    seed: int, frames: int, size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64], NDArray[np.uint8], Intrinsics]:
    """Frames, poses, points with their colours, intrinsics of a walk through a room."""
    room = build_room(seed)
    poses = walk(room, seed, frames=frames)
    with RoomRenderer(room, size=size) as renderer:
        pictures, depths = zip(*(renderer.render(pose) for pose in poses), strict=True)
        k = renderer.intrinsics
    rng = np.random.default_rng(seed)
    view, row, column = (rng.integers(0, n, POINTS) for n in (frames, *size))
    depth = np.stack(depths)[view, row, column].astype(np.float64)
    rays = np.stack([(column + 0.5 - k.cx) / k.fx, (row + 0.5 - k.cy) / k.fy, np.ones(POINTS)], axis=1) * depth[:, None]
    points = np.einsum("nij,nj->ni", poses[view, :3, :3], rays) + poses[view, :3, 3]
    frames_array = np.stack(pictures)
    return frames_array, poses, points, frames_array[view, row, column], k


if __name__ == "__main__":
    main()
