"""SIGKILL `wfm-sim collect` and `wfm-sim train` at random moments, resume, and compare with unbroken runs.

    python benchmarks/kill_resume.py --kills 10

Prints one line per program: how often it was killed, how far it was each time, and whether the result is the same to
the byte: for collect every file of the data set, for training the weights, the optimisers' state and the averages.
"""

import argparse
import hashlib
import json
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


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    """A wfm-sim command in a session of its own, so that its workers are killed with it."""
    command = [sys.executable, "-m", "wfm_sim.cli", *arguments]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(errors.decode())


def killed_and_resumed(
    name: str,
    arguments: Callable[[Path], list[str]],
    digest: Callable[[Path], str],
    progress: Callable[[Path], int],
    folder: Path,
    kills: int,
    rng: random.Random,
) -> bool:
    """One program: an unbroken run, then one that is killed at `kills` random points; True if the results are equal.

    A point is an amount of progress (drawn evenly over the first 95 % of the whole) and a random wait after it, so
    that a kill can fall on any moment, a write included.
    """
    finish(start(arguments(folder / "whole")))
    total = progress(folder / "whole")
    reached = []
    for target in sorted(rng.uniform(0, 0.95) * total for _ in range(kills)):
        process = start(arguments(folder / "broken"))
        while process.poll() is None and progress(folder / "broken") < target:
            time.sleep(0.005)
        time.sleep(rng.random() * 0.1)
        if process.poll() is not None:
            sys.exit(f"{name}: it ended before it could be killed; give it more to do")
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        reached.append(progress(folder / "broken"))
    finish(start(arguments(folder / "broken")))
    same = digest(folder / "whole") == digest(folder / "broken")
    print(
        f"{name}: killed {kills} times, at {reached} of {total}; the result is {'the same' if same else 'DIFFERENT'}",
        flush=True,
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


def logged_step(folder: Path) -> int:
    """The last step that the run's metrics name."""
    path = folder / "run" / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    steps = [json.loads(line)["step"] for line in lines if line.endswith("}")]
    return max(steps, default=0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--episodes", type=int, default=60, help="of the collected data set")
    parser.add_argument("--steps", type=int, default=120, help="of training")
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
        finish(start(["train", "tokenizer", "--recipe", "debug", "--data", str(data), "--out", str(tokenizer)]))

        def train(out: Path) -> list[str]:
            return [
                "train", "action", "--recipe", "debug", "--data", str(data), "--out", str(out / "run"),
                "--from", str(tokenizer / "model.safetensors"), "--steps", str(a.steps),
            ]  # fmt: skip

        same &= killed_and_resumed("train", train, checkpoint_digest, logged_step, root / "train", a.kills, rng)
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
