"""SIGKILL `wfm-sim collect` and `wfm-sim train` at random moments, resume, and compare with unbroken runs.

    python benchmarks/kill_resume.py --kills 10

Prints one line per program: how often it was killed, how far it was each time, and whether the result is the same to
the byte: for collect every file of the data set, for training the weights, the optimisers' state and the averages.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def run(arguments: list[str], kill_after: float | None = None) -> float:
    """Run a wfm-sim command, killed after some seconds; returns how long it ran. Its workers are killed with it."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "wfm_sim.cli", *arguments]
    process = subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        _, errors = process.communicate(timeout=kill_after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    else:
        if process.returncode:
            sys.exit(errors.decode())
    return time.perf_counter() - began


def killed_and_resumed(
    name: str,
    arguments: Callable[[Path], list[str]],
    digest: Callable[[Path], str],
    progress: Callable[[Path], int],
    folder: Path,
    kills: int,
    rng: random.Random,
) -> bool:
    """One program: an unbroken run, then a run that is killed `kills` times; True if their results are the same."""
    seconds = run(arguments(folder / "whole"))
    start_up = min(3.0, seconds / 3)
    reached = []
    for _ in range(kills):
        run(arguments(folder / "broken"), kill_after=start_up + rng.random() * (seconds - start_up) / 3)
        reached.append(progress(folder / "broken"))
    run(arguments(folder / "broken"))
    same = digest(folder / "whole") == digest(folder / "broken")
    print(
        f"{name}: killed {kills} times, at {reached}; the result is {'the same' if same else 'DIFFERENT'}", flush=True
    )
    return same


def files_digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".lock")):
        total.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return total.hexdigest()


def checkpoint_digest(folder: Path) -> str:
    """Of every tensor of the last checkpoint, in order."""
    total = hashlib.sha256()

    def add(value: object) -> None:
        if isinstance(value, torch.Tensor):
            total.update(value.contiguous().view(torch.uint8).numpy().tobytes() if value.ndim else str(value).encode())
        elif isinstance(value, dict):
            for key in sorted(value, key=str):
                add(value[key])
        elif isinstance(value, list | tuple):
            for item in value:
                add(item)
        else:
            total.update(repr(value).encode())

    add(torch.load(folder / "run" / "checkpoint.pt", weights_only=True))
    return total.hexdigest()


def checkpoint_step(folder: Path) -> int:
    path = folder / "run" / "checkpoint.pt"
    return int(torch.load(path, weights_only=True)["step"]) if path.is_file() else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=60, help="of the collected data set")
    parser.add_argument("--steps", type=int, default=60, help="of training")
    a = parser.parse_args()
    rng = random.Random(a.seed)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)

        def collect(out: Path) -> list[str]:
            return ["collect", "--out", str(out), "--episodes", str(a.episodes), "--workers", "2"]

        same = killed_and_resumed(
            "collect",
            collect,
            files_digest,
            lambda out: len(list(out.glob("annotation/train/*.json"))),
            root / "data",
            a.kills,
            rng,
        )
        data = root / "data" / "whole"
        tokenizer = root / "tok" / "run"
        run(["train", "tokenizer", "--recipe", "debug", "--data", str(data), "--out", str(tokenizer)])

        def train(out: Path) -> list[str]:
            return [
                "train", "action", "--recipe", "debug", "--data", str(data), "--out", str(out / "run"),
                "--from", str(tokenizer / "model.safetensors"), "--steps", str(a.steps),
            ]  # fmt: skip

        same &= killed_and_resumed("train", train, checkpoint_digest, checkpoint_step, root / "train", a.kills, rng)
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
