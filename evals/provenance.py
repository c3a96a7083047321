"""What a result was made with: hashes of weights, versions, the commit, the machine."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import wfm_sim
from wfm_sim.weights import weights_hash

PACKAGES = ("torch", "mujoco", "gymnasium", "numpy")


def network_hash(thing: Any) -> str | None:
    """`weights_hash` of a world model, or of the network inside a judge or a trust, or the `fingerprint` of a judge
    whose weights are elsewhere; None where there is none."""
    found = weights_hash(thing) or weights_hash(getattr(thing, "network", None))
    return found or getattr(thing, "fingerprint", None)


def versions() -> dict[str, str]:
    """Of Python, wfm-sim and the packages that decide what comes out."""
    found = {"python": platform.python_version(), "wfm-sim": wfm_sim.__version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """The kind of machine (not its name): processor, cores, operating system, GPU where torch has one in use."""
    import torch

    about: dict[str, Any] = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if torch.cuda.is_available():
        about["gpu"] = torch.cuda.get_device_name()
    return about


def git_commit() -> str | None:
    """The commit of the checkout that this package runs from, '+changes' where files differ; None outside of one."""
    root = Path(wfm_sim.__file__).resolve().parent.parent
    if not (root / "pyproject.toml").is_file():  # installed: a repository around it would be somebody else's
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + ("+changes" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    return done.stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
