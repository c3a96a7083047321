"""The weights that ship with the package."""

from __future__ import annotations

from pathlib import Path

import wfm_sim

FOLDER = "assets/weights"


def shipped() -> dict[str, Path]:
    """Name -> file of everything in assets/weights, whatever it holds."""
    found: dict[str, Path] = {}
    for root in wfm_sim.__path__:
        for path in sorted((Path(root) / FOLDER).glob("*.safetensors")):
            found.setdefault(path.stem, path)
    return found
