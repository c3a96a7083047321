"""Speed and bookkeeping of a world model: `python benchmarks/world_model_speed.py --world-model nano-tabletop`.

Measures, with decode: frames/s at batch 1 and 16, the cost of step 1,000 against step 10 (interleaved, so that a busy
machine slows both), and checks that a fork and its replay are bit-identical and that a row does not depend on its batch
neighbours.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from wfm_sim.errors import UserError

Rollout = tuple[Any, np.ndarray]


class Bench:
    """A model with start frames and random actions of its own box."""

    def __init__(self, model: Any, seed: int = 0) -> None:
        self.model, self.spec = model, model.spec
        self.rng = np.random.default_rng(seed)
        self.low, self.high = np.float32(self.spec.condition_low), np.float32(self.spec.condition_high)

    def frames(self, batch: int) -> np.ndarray:
        """uint8 [B, 1, H, W, 3]: smooth random pictures, so that the tokenizer sees nothing absurd."""
        import cv2

        height, width = self.spec.frame_size
        coarse = self.rng.integers(0, 256, (batch, 8, 8, 3), dtype=np.uint8)
        return np.stack([cv2.resize(c, (width, height), interpolation=cv2.INTER_CUBIC) for c in coarse])[:, None]

    def actions(self, batch: int) -> np.ndarray:
        """float32 [B, n, A]."""
        shape = (batch, self.spec.frames_per_step, len(self.low))
        return (self.low + (self.high - self.low) * self.rng.random(shape)).astype(np.float32)

    def start(self, batch: int) -> Any:
        return self.model.start(self.frames(batch), seeds=list(range(batch)))

    def run(self, state: Any, actions: list[np.ndarray]) -> Rollout:
        """The state after `actions` and all frames [B, steps * n, H, W, 3]."""
        frames = []
        for row in actions:
            state, new = self.model.step(state, row)
            frames.append(new)
        return state, np.concatenate(frames, axis=1)


def frames_per_second(bench: Bench, batch: int, seconds: float) -> float:
    """Median over repeats of 10 steps, after warming up past the context length."""
    state = bench.start(batch)
    state, _ = bench.run(state, [bench.actions(batch) for _ in range(bench.spec.context_frames + 3)])
    rates: list[float] = []
    ends = time.perf_counter() + seconds
    while len(rates) < 5 or time.perf_counter() < ends:
        actions = [bench.actions(batch) for _ in range(10)]
        began = time.perf_counter()
        state, frames = bench.run(state, actions)
        rates.append(frames.shape[0] * frames.shape[1] / (time.perf_counter() - began))
    return statistics.median(rates)


RUN = 16  # consecutive steps that are timed together


def late_step_cost(bench: Bench, late: int, repeats: int) -> tuple[float, float, float]:
    """Median ms of a step from step 10 on and from step `late` on, and the median of their ratios, measured in turn.

    Each is the mean of RUN consecutive steps: a model may do a little more in some steps (move its
    window), at any age, and a single step would catch that or miss it.
    """
    state = bench.start(1)
    states: dict[int, Any] = {}
    for step in range(1, late + 1):
        if step in (10, late):
            states[step] = state
        state, _ = bench.model.step(state, bench.actions(1))
    times: dict[int, list[float]] = {10: [], late: []}
    for repeat in range(repeats):
        actions = [bench.actions(1) for _ in range(RUN)]
        for step in (10, late) if repeat % 2 else (late, 10):
            state, began = states[step], time.perf_counter()
            for action in actions:
                state, _ = bench.model.step(state, action)
            times[step].append((time.perf_counter() - began) / RUN)
    ratios = [b / a for a, b in zip(times[10], times[late], strict=True)]
    return 1000 * statistics.median(times[10]), 1000 * statistics.median(times[late]), statistics.median(ratios)


def fork_is_exact(bench: Bench, batch: int = 3, steps: int = 6) -> bool:
    """A kept state and a clone of it, replayed with the same actions, give the same bits."""
    state, _ = bench.run(bench.start(batch), [bench.actions(batch) for _ in range(4)])
    copy, actions = state.clone(), [bench.actions(batch) for _ in range(steps)]
    first = bench.run(state, actions)[1]
    return bool((first == bench.run(state, actions)[1]).all() and (first == bench.run(copy, actions)[1]).all())


def neighbour_difference(bench: Bench, batch: int = 4, steps: int = 12) -> tuple[float, float | None]:
    """Each row alone against the same row among others: largest pixel difference (of 255), and of the latents."""
    together = bench.start(batch)
    alone = [together[[i]] for i in range(batch)]
    actions = [bench.actions(batch) for _ in range(steps)]
    end, frames = bench.run(together, actions)
    pixels, latents = 0.0, 0.0
    seen = False
    for i, state in enumerate(alone):
        last, mine = bench.run(state, [a[i : i + 1] for a in actions])
        pixels = max(pixels, float(np.abs(mine[0].astype(int) - frames[i].astype(int)).max()))
        for a, b in zip(_latents(last), _latents(end), strict=True):
            seen = True
            latents = max(latents, float((a[0] - b[i]).abs().max()))
    return pixels, latents if seen else None


def _latents(state: Any) -> list[Any]:
    """The floating-point tensors of a state whose first axis is the row."""
    import torch

    rows = len(state)
    return [
        value
        for value in vars(state).values()
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim > 1 and len(value) == rows
    ]


def main(argv: list[str] | None = None) -> int:
    """Print the table; exit code 1 when a check fails, 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world-model", default="nano-tabletop", help="name or path")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="torch threads (default: all cores)")
    parser.add_argument("--seconds", type=float, default=5.0, help="time per frames/s measurement")
    parser.add_argument("--late", type=int, default=1000, help="the late step that is compared with step 10")
    parser.add_argument("--repeats", type=int, default=60, help="interleaved pairs of that comparison")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    arguments = parser.parse_args(argv)
    try:
        if arguments.threads < 1 or arguments.late < 11 or arguments.repeats < 1:
            raise UserError("--threads and --repeats must be at least 1, and --late at least 11.")
        import torch

        from wfm_sim.models import load

        torch.set_num_threads(arguments.threads)
        model = load(arguments.world_model)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    numbers = measure(model, seconds=arguments.seconds, late=arguments.late, repeats=arguments.repeats)
    print(f"{model.spec.name}: {arguments.threads} thread(s), {platform.machine()}, {os.cpu_count()} cores")
    for line in table(numbers):
        print(line)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps({**numbers, "threads": arguments.threads}, indent=2))
    return 0 if all(met for _, _, _, met in rows(numbers) if met is not None) else 1


def measure(
    model: Any, *, seconds: float, late: int, repeats: int, say: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """All numbers by name."""
    say = say or (lambda text: print(text, file=sys.stderr, flush=True))
    bench = Bench(model)
    say("checking fork and neighbours ...")
    exact, (pixels, latents) = fork_is_exact(bench), neighbour_difference(bench)
    say("measuring batch 1 ...")
    one = frames_per_second(bench, 1, seconds)
    say("measuring batch 16 ...")
    sixteen = frames_per_second(bench, 16, seconds)
    say(f"walking to step {late} ...")
    early_ms, late_ms, ratio = late_step_cost(bench, late, repeats)
    return {
        "fps_batch_1": one,
        "fps_batch_16": sixteen,
        "batch_ratio": sixteen / one,
        "late": late,
        "step_10_ms": early_ms,
        "step_late_ms": late_ms,
        "late_ratio": ratio,
        "fork_exact": exact,
        "neighbour_pixels": pixels,
        "neighbour_latents": latents,
    }


def rows(n: dict[str, Any]) -> list[tuple[str, str, str, bool | None]]:
    """(what, measured, wanted, met)."""
    latents = n["neighbour_latents"]
    return [
        ("frames/s, batch 1", f"{n['fps_batch_1']:.1f}", ">= 20", n["fps_batch_1"] >= 20),
        ("frames/s, batch 16", f"{n['fps_batch_16']:.1f}", "", None),
        ("batch 16 / batch 1", f"{n['batch_ratio']:.2f}", ">= 3", n["batch_ratio"] >= 3),
        (
            f"step {n['late']} / step 10",
            f"{n['late_ratio']:.3f} ({n['step_late_ms']:.1f} / {n['step_10_ms']:.1f} ms)",
            "<= 1.05",
            n["late_ratio"] <= 1.05,
        ),
        ("fork and replay bit-identical", "yes" if n["fork_exact"] else "NO", "yes", n["fork_exact"]),
        (
            "neighbours: largest pixel difference",
            f"{n['neighbour_pixels']:.0f} of 255",
            "<= 1",
            n["neighbour_pixels"] <= 1,
        ),
        (
            "neighbours: largest latent difference",
            "unscored (the state shows no tensors)" if latents is None else f"{latents:.1e}",
            "<= 1e-5",
            None if latents is None else latents <= 1e-5,
        ),
    ]


def table(numbers: dict[str, Any]) -> list[str]:
    """Markdown."""
    word = {True: "met", False: "NOT MET", None: ""}
    lines = ["| what | measured | wanted | |", "|---|---|---|---|"]
    return lines + [f"| {what} | {value} | {wanted} | {word[met]} |" for what, value, wanted, met in rows(numbers)]


if __name__ == "__main__":
    sys.exit(main())
