"""CPU seconds that the consistency evals take for one clip: SfM, Sampson error, view synthesis.

    python benchmarks/consistency_cost.py --frames 16 --size 240 320

Seconds of the processor, subprocesses included, so that other work on the machine changes little; the median over turns
on walks through rooms of our own. The first turn of view synthesis, which compiles, is left out.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace

import cv2

from wfm_sim.evals.consistency import ConsistencySettings, SfmSettings, score_clip
from wfm_sim.evals.consistency.validation import ROOM, room_scene


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, nargs=2, default=(240, 320), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--no-synthesis", action="store_true")
    a = parser.parse_args()
    cv2.setNumThreads(1)
    settings = ConsistencySettings(synthesis=not a.no_synthesis)
    if settings.synthesis:  # compiles
        warm = room_scene(ROOM, tuple(a.size), a.frames).clean
        score_clip(warm.frames, intrinsics=warm.intrinsics, settings=replace(settings, iterations=2))
    spent: dict[str, list[float]] = {}
    for turn in range(a.turns):
        clip = room_scene(ROOM + turn, tuple(a.size), a.frames).clean
        score = score_clip(clip.frames, intrinsics=clip.intrinsics, commanded=clip.commanded, settings=settings)
        one = replace(settings, synthesis=False, sfm=SfmSettings(incremental=False))
        alone = score_clip(clip.frames, intrinsics=clip.intrinsics, settings=one)
        for name, seconds in {**score.seconds, "sfm without cross-check": alone.seconds["sfm"]}.items():
            spent.setdefault(name, []).append(seconds)
        print(f"room {ROOM + turn}: " + ", ".join(f"{k} {v[-1]:.1f}" for k, v in spent.items()), flush=True)
    height, width = a.size
    print(f"median CPU seconds for a clip of {a.frames} frames, {width}x{height}:")
    for name, values in spent.items():
        print(f"  {name:24s} {statistics.median(values):6.1f}")


if __name__ == "__main__":
    main()
