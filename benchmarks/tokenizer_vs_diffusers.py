"""Our video tokenizer against diffusers' AutoencoderKLCosmos: `python benchmarks/tokenizer_vs_diffusers.py`.

Published sizes, same freshly drawn weights, same clip, float32, on the CPU, with one thread and with two. The two take
turns, so that a busy machine slows both, and the fastest run of each counts. The ratio is of encoding plus decoding.
Beside it: one step of our stream (the next latent frame's pixels in, and out again).
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

from wfm_sim.models.parity.case import relative_error
from wfm_sim.models.published.names_tokenizer import diffusers_config, to_diffusers
from wfm_sim.models.tokenizer import Tokenizer, TokenizerConfig

CONFIGS = {
    "cv8x8x8": TokenizerConfig(),
    "cv4x8x8": replace(TokenizerConfig(), temporal_compression=4, patch_size=2),
}
GOAL = 0.9


def pair(cfg: TokenizerConfig) -> tuple[Tokenizer, Any]:
    """Ours and diffusers', with the same weights."""
    from diffusers import AutoencoderKLCosmos

    torch.manual_seed(0)
    ours, theirs = Tokenizer(cfg).eval(), AutoencoderKLCosmos(**diffusers_config(cfg)).eval()
    names = {to_diffusers(name, len(cfg.channels_mult)): value for name, value in ours.state_dict().items()}
    theirs.load_state_dict({name: value for name, value in names.items() if name is not None})
    return ours, theirs


def fastest(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Milliseconds of the fastest of `rounds` calls each, taken in turns."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds + 1):  # the first round warms up, and never is the fastest
        for name, call in calls.items():
            begun = time.perf_counter()
            call()
            best[name] = min(best[name], 1e3 * (time.perf_counter() - begun))
    return best


@torch.inference_mode()
def measure(name: str, frames: int, side: int, threads: list[int], rounds: int) -> list[dict[str, Any]]:
    """One row per number of threads: milliseconds of both, and their ratio."""
    ours, theirs = pair(CONFIGS[name])
    t = ours.temporal_compression
    x = torch.rand(1, 3, frames, side, side) * 2 - 1

    def encode() -> Tensor:
        return theirs.encode(x).latent_dist.mode()

    z = encode()
    errors = relative_error(ours.encode(x), z), relative_error(ours.decode(z), theirs.decode(z).sample)
    assert max(errors) < 1e-4, f"{name}: not the same network ({max(errors):.1e})"
    _, encoder = ours.encode_stream(x[:, :, :1])
    _, decoder = ours.decode_stream(z[:, :, :1])
    calls: dict[str, Callable[[], Any]] = {
        "encode": lambda: ours.encode(x),
        "diffusers encode": encode,
        "decode": lambda: ours.decode(z),
        "diffusers decode": lambda: theirs.decode(z).sample,
        "stream encode": lambda: ours.encode_stream(x[:, :, 1 : 1 + t], encoder),
        "stream decode": lambda: ours.decode_stream(z[:, :, 1:2], decoder),
    }
    rows = []
    for count in threads:
        torch.set_num_threads(count)
        best = fastest(calls, rounds)
        ratio = (best["encode"] + best["decode"]) / (best["diffusers encode"] + best["diffusers decode"])
        row = {"size": f"{name} {frames}x{side}x{side}", "threads": count, "ratio": round(ratio, 3)}
        rows.append({**row, **{f"{call} ms": round(ms, 1) for call, ms in best.items()}})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizers", nargs="+", choices=CONFIGS, default=list(CONFIGS))
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--side", type=int, default=128, help="height and width in pixels")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=6)
    args = parser.parse_args()
    import diffusers

    print(json.dumps({"torch": torch.__version__, "diffusers": diffusers.__version__, "cpu": platform.processor()}))
    rows = [row for name in args.tokenizers for row in measure(name, args.frames, args.side, args.threads, args.rounds)]
    slow = [row for row in rows if row["ratio"] > GOAL]
    print(f"{len(rows)} measured; goal {GOAL}: " + ("reached" if not slow else f"missed by {len(slow)}"))


if __name__ == "__main__":
    main()
