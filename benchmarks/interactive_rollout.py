"""Frames per second of the frame-by-frame action model, random weights: `python benchmarks/interactive_rollout.py`.

The published sizes (Predict2.5-2B interactive, 256x320, 4 steps and a cache write per latent frame of 4 pixel frames,
WAN2.1 decoding) in bfloat16 on a GPU; on a CPU `--tiny` rehearses the same code. Reported: frames per second with and
without torch.compile, the cost of a late step over an early one, peak memory, and the ratio of one network pass over a
13-frame clip to diffusers' CosmosTransformer3DModel with the same weights.

It measures speed: random weights show nothing, and take as long as trained ones.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from wfm_sim.models.causal_world import CausalWorldModel
from wfm_sim.models.dit import DiT
from wfm_sim.models.generators import Parts, load_parts
from wfm_sim.models.parity.diffusers_dit import DiffusersTwin
from wfm_sim.models.published.presets_dit import predict25_2b
from wfm_sim.models.published.registry import preset
from wfm_sim.models.simulators import RANDOM_NOTICE, assemble
from wfm_sim.models.wan_vae import WanConfig, WanVAE

NAME = "predict2.5-2b-action-interactive"
TINY = {
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 128,
    "num_blocks": 3,
    "num_heads": 4,
    "adaln_lora_dim": 16,
}
GOAL_FPS, GOAL_FLAT = 15.0, 1.05


def synchronise(device: str) -> None:
    """Wait for the GPU, so that the clock sees its work."""
    if device != "cpu":
        torch.cuda.synchronize()


def build(tiny: bool, device: str, dtype: torch.dtype) -> Any:
    """The simulator, at its published size or small."""
    if not tiny:
        parts = load_parts(NAME, "wan2.1-vae", "random", device=device, dtype=dtype)
        context = torch.zeros(1, 512, preset(NAME).config().context_projection or 0)
        return assemble(NAME, parts, context, notice=RANDOM_NOTICE)
    cfg = replace(preset(NAME).config(), **TINY, context_channels=32, context_projection=64)
    vae = WanVAE(WanConfig(dim=8, z_dim=4, num_res_blocks=1, mean=(0.0,) * 4, std=(1.0,) * 4))
    parts = Parts(DiT(cfg).to(device, dtype), vae.to(device, dtype if device != "cpu" else torch.float32))
    return assemble(NAME, parts, torch.zeros(1, 512, 64), frame_size=(64, 80), notice=RANDOM_NOTICE)


def rollout(world: CausalWorldModel, batch: int, steps: int, device: str) -> list[float]:
    """Seconds of every step of one rollout."""
    h, w = world.spec.frame_size
    state = world.start(np.zeros((batch, 1, h, w, 3), np.uint8), seeds=list(range(batch)))
    actions = np.zeros((batch, world.spec.frames_per_step, len(world.spec.condition_low)), np.float32)
    seconds = []
    for _ in range(steps):
        begun = time.perf_counter()
        state, _ = world.step(state, actions)
        synchronise(device)
        seconds.append(time.perf_counter() - begun)
    return seconds


def turns(calls: dict[str, Callable[[], Any]], rounds: int, device: str) -> dict[str, float]:
    """Seconds of the fastest of `rounds` calls each, taken in turns after one to warm up."""
    best = dict.fromkeys(calls, float("inf"))
    with torch.inference_mode():
        for i in range(rounds + 1):
            for name, call in calls.items():
                synchronise(device)
                begun = time.perf_counter()
                call()
                synchronise(device)
                if i:
                    best[name] = min(best[name], time.perf_counter() - begun)
    return best


def against_diffusers(tiny: bool, device: str, dtype: torch.dtype, rounds: int) -> float:
    """Time of our pass over a 13-frame clip (4 latent frames) over that of diffusers, same weights and inputs."""
    cfg = predict25_2b()
    cfg = replace(cfg, **TINY, context_channels=32, context_projection=64) if tiny else cfg
    torch.manual_seed(0)
    ours = DiT(cfg).eval()
    theirs = DiffusersTwin(ours).to(device, dtype)
    ours = ours.to(device, dtype)
    h, w = (8, 10) if tiny else (32, 40)
    where: Any = {"device": device, "dtype": dtype}
    x, context = torch.randn(1, cfg.in_channels, 4, h, w, **where), torch.randn(1, 512, cfg.context_projection, **where)
    given = {
        "condition_mask": torch.zeros(1, 1, 4, h, w, **where),
        "padding_mask": torch.zeros(1, 1, 8 * h, 8 * w, **where),
    }
    times = torch.rand(1, 4, **where)
    best = turns(
        {
            "ours": lambda: ours(x, times, context=context, **given),
            "diffusers": lambda: theirs(x, times, context=context, **given),
        },
        rounds,
        device,
    )
    return best["ours"] / best["diffusers"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="a small network, to rehearse where there is no GPU")
    parser.add_argument("--batch", nargs="+", type=int, default=[1, 4])
    parser.add_argument("--steps", type=int, default=64, help="latent frames of a rollout")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--no-compile", action="store_true")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not args.tiny:
        raise SystemExit("no GPU here: the published size needs one; --tiny rehearses on the CPU")
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    machine = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    print(json.dumps({"machine": machine, "torch": torch.__version__, "dtype": str(dtype), "tiny": args.tiny}))

    world = build(args.tiny, device, dtype)
    per_step = world.spec.frames_per_step
    for compiled in (False,) if args.no_compile else (False, True):
        if compiled:
            world.net = torch.compile(world.net, dynamic=False)  # type: ignore[assignment]
        for batch in args.batch:
            rollout(world, batch, 12, device)  # fills the window and compiles
            seconds = rollout(world, batch, args.steps, device)
            quarter = max(1, args.steps // 4)
            window = min(world.cfg.window + 2, args.steps - quarter)  # steps before the window is full are cheaper
            early, late = np.median(seconds[window : window + quarter]), np.median(seconds[-quarter:])
            row = {
                "compile": compiled,
                "batch": batch,
                "frames_per_second": round(batch * per_step / float(np.median(seconds[window:])), 2),
                "late_over_early_step": round(float(late / early), 3),
            }
            if device == "cuda":
                row["peak_memory_GB"] = round(torch.cuda.max_memory_allocated() / 1e9, 1)
            print(json.dumps(row), flush=True)
    del world
    print(json.dumps({"pass_over_diffusers": round(against_diffusers(args.tiny, device, dtype, args.rounds), 3)}))
    print(f"goals on an H200: {GOAL_FPS} frames/s at batch 1, late step <= {GOAL_FLAT} of an early one")


if __name__ == "__main__":
    main()
