"""SIGKILL `wfm-sim eval policy` at random amounts of progress, resume, and compare with an unbroken run.

    python benchmarks/eval_kill_resume.py --kills 10

Prints how often it was killed, how many records there were each time, whether the records (sorted) and the table are
the same to the byte, and their hashes. The other programs that resume are in kill_resume.py, whose method this is.
"""

import argparse
import hashlib
import random
import sys
import tempfile
from pathlib import Path

from kill_resume import killed_and_resumed


def records(folder: Path) -> list[bytes]:
    """Whole lines of the records."""
    path = folder / "records.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return [line for line in lines if line.endswith(b"\n")]


def digest(folder: Path) -> str:
    return "".join(hashes(folder))


def hashes(folder: Path) -> tuple[str, str]:
    """SHA-256 of the sorted records and of the table."""
    parts = (b"".join(sorted(records(folder))), (folder / "table.md").read_bytes())
    first, second = (hashlib.sha256(part).hexdigest() for part in parts)
    return first, second


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--world-model", default="nano-tabletop")
    parser.add_argument("--policies", default="random,expert-noise0.4,expert")
    parser.add_argument("--tasks", default="push,place")
    parser.add_argument("--episodes", type=int, default=8, help="per policy and task")
    parser.add_argument("--num-envs", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    a = parser.parse_args()

    def run(out: Path) -> list[str]:
        chosen = {
            "--world-model": a.world_model, "--policies": a.policies, "--tasks": a.tasks, "--episodes": a.episodes,
            "--num-envs": a.num_envs, "--workers": a.workers, "--clips": 1, "--out": out,
        }  # fmt: skip
        return ["eval", "policy", *(str(part) for pair in chosen.items() for part in pair)]

    with tempfile.TemporaryDirectory() as name:
        rng = random.Random(a.seed)
        same = killed_and_resumed("eval", run, digest, lambda out: len(records(out)), Path(name), a.kills, rng)
        print(f"{'run':10}{'records':>8}{'their SHA-256':>18}{'table.md':>18}")
        for kind in ("whole", "broken"):
            ours, table = hashes(Path(name) / kind)
            print(f"{kind:10}{len(records(Path(name) / kind)):8}{ours[:16]:>18}{table[:16]:>18}")
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
