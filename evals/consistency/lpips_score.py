"""LPIPS (Zhang et al. 2018, arXiv 1801.03924) with AlexNet, by the authors' package where it and its weights are there.

The package brings its own linear layers; AlexNet's weights it would fetch by itself. We only use what is on the disk
already, in torch's folder of checkpoints, and say 'unscored' with the reason otherwise.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Distance = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float64]]
BACKBONE = "alexnet-owt-7be5be79.pth"


def load_lpips() -> Distance | str:
    """A function of two sets of pictures, uint8 [T, H, W, 3] twice -> float64 [T] distance, 0 for equal ones.

    Where package or weights are absent: the reason, as a sentence.
    """
    for package in ("lpips", "torchvision"):
        if importlib.util.find_spec(package) is None:
            return f"the package {package} is absent (pip install lpips)"
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if not (folder / BACKBONE).is_file():
        return f"AlexNet's weights are not in {folder} (no {BACKBONE})"
    try:
        import lpips

        network = lpips.LPIPS(net="alex", verbose=False)
    except (ImportError, RuntimeError) as error:  # e.g. a torchvision that is not of this torch
        return f"LPIPS cannot be loaded ({error})"

    def distance(truth: NDArray[np.uint8], found: NDArray[np.uint8]) -> NDArray[np.float64]:
        with torch.inference_mode():
            a, b = (torch.from_numpy(f.copy()).permute(0, 3, 1, 2).float() / 127.5 - 1 for f in (truth, found))
            return network(a, b).reshape(-1).double().numpy()

    return distance
