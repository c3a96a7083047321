"""The weights that ship with the package, and how to tell one set of weights from another."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import wfm_sim

FOLDER = "assets/weights"


def shipped() -> dict[str, Path]:
    """Name -> file of everything in assets/weights, whatever it holds."""
    found: dict[str, Path] = {}
    for root in wfm_sim.__path__:
        for path in sorted((Path(root) / FOLDER).glob("*.safetensors")):
            found.setdefault(path.stem, path)
    return found


def weights_hash(model: Any) -> str | None:
    """'sha256:...' of a world model's weights and settings, but not of its name or file; None for one without weights.

    Weights are compared as bfloat16, so that a model says the same of itself whatever it was stored or computes in.
    Settings that are None count as absent, so that it also does when later versions have more settings.
    """
    import torch

    if not isinstance(model, torch.nn.Module):
        return None
    config: Any = getattr(model, "cfg", None)
    config = {} if config is None else {k: v for k, v in config.to_dict().items() if v is not None}
    digest = hashlib.sha256(json.dumps({**config, "name": ""}, sort_keys=True).encode())
    for name, value in sorted(model.state_dict().items()):
        plain = value.detach().cpu().to(torch.bfloat16) if value.is_floating_point() else value.detach().cpu()
        digest.update(name.encode() + plain.contiguous().view(torch.uint8).numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"
