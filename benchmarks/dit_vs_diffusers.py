"""A pass of our DiT against diffusers' CosmosTransformer3DModel: `python benchmarks/dit_vs_diffusers.py`.

Same weights, same inputs, float32, on the CPU; every case with one thread and with two. The two networks take turns, so
that a busy machine slows both, and the fastest pass of each counts; `--clock cpu` counts the process's own seconds
instead of the wall's, for machines so busy that no pass is left alone. Three ways of being called are measured:

- frames: a time per latent frame, as Predict2's and 2.5's Video2World pipelines call the network;
- one time: one time for all frames, as Text2World and Predict1 do;
- next step: the same at a later denoising step, where ours keeps the text's keys and values (diffusers cannot).
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from wfm_sim.models.dit import DiT, DiTConfig
from wfm_sim.models.parity.case import relative_error
from wfm_sim.models.parity.diffusers_dit import DiffusersTwin, randomise
from wfm_sim.models.published.presets_dit import predict2_2b

# Name -> network, latent frames, latent height and width, text tokens.
SIZES: dict[str, tuple[DiTConfig, int, int, int, int]] = {
    "512x12": (replace(predict2_2b(), model_channels=512, num_heads=8, num_blocks=12), 4, 32, 48, 512),
    "nano": (replace(predict2_2b(), model_channels=256, num_heads=4, num_blocks=6, adaln_lora_dim=64), 4, 16, 16, 32),
}
GOAL = 0.9
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def fastest(calls: dict[str, Callable[[], Tensor]], rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Seconds of the fastest of `rounds` calls each, taken in turns."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds + 1):  # the first round warms up, and never is the fastest
        for name, call in calls.items():
            begun = clock()
            call()
            best[name] = min(best[name], clock() - begun)
    return best


@torch.inference_mode()
def measure(size: str, threads: list[int], rounds: int, clock: Callable[[], float]) -> list[dict[str, Any]]:
    """One row per number of threads and way of calling: milliseconds of both, and their ratio."""
    cfg, t, h, w, words = SIZES[size]
    torch.manual_seed(0)
    ours = DiT(cfg).eval()
    randomise(ours)
    theirs = DiffusersTwin(ours)
    x, context = torch.randn(1, cfg.in_channels, t, h, w), torch.randn(1, words, cfg.context_channels)
    given = {"condition_mask": torch.zeros(1, 1, t, h, w), "padding_mask": torch.zeros(1, 1, 8 * h, 8 * w)}
    per_frame, one = torch.rand(1, t), torch.rand(1, 1)
    texts = ours.text_keys(context)
    ways = {"frames": (per_frame, context), "one time": (one, context), "next step": (one, texts)}
    rows = []
    for count in threads:
        torch.set_num_threads(count)
        for way, (times, text) in ways.items():

            def our_pass(times: Tensor = times, text: Any = text) -> Tensor:
                return ours(x, times, context=text, **given)

            def their_pass(times: Tensor = times) -> Tensor:
                return theirs(x, times, context=context, **given)

            error = relative_error(our_pass(), their_pass())
            assert error < 1e-4, f"{size}, {way}: not the same network ({error:.1e})"
            best = fastest({"ours": our_pass, "diffusers": their_pass}, rounds, clock)
            ratio = best["ours"] / best["diffusers"]
            milliseconds = {f"{name}_ms": round(1e3 * seconds, 2) for name, seconds in best.items()}
            rows.append({"size": size, "threads": count, "call": way, **milliseconds, "ratio": round(ratio, 3)})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    args = parser.parse_args()
    import diffusers

    print(json.dumps({"torch": torch.__version__, "diffusers": diffusers.__version__, "cpu": platform.processor()}))
    rows = [row for size in args.sizes for row in measure(size, args.threads, args.rounds, CLOCKS[args.clock])]
    slow = [f"{row['size']} {row['call']} x{row['threads']}" for row in rows if row["ratio"] > GOAL]
    print(f"{len(rows)} measured; ratio <= {GOAL}: " + (f"missed by {', '.join(slow)}" if slow else "all"))


if __name__ == "__main__":
    main()
