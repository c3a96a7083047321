"""DreamSim (Fu et al. 2023, arXiv 2306.09344): perceptual similarity by an ensemble of vision transformers.

Extra `dreamsim`. Its package would fetch weights by itself; we only use what is on the disk already, in the folder that
DREAMSIM_CACHE names (default ~/.cache/dreamsim), and say 'unscored' with the reason otherwise.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Similarity = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.float64]]
NEEDED = ("dino_vitb16_pretrain.pth", "open_clip_vitb16_pretrain.pth.tar", "clip_vitb16_pretrain.pth.tar")
ADAPTERS = ("ensemble_lora", "dino_vitb16_lora")  # of newer and of older versions: one of them


def load_dreamsim(device: str = "cpu") -> Similarity | str:
    """A function of two clips, uint8 [T, H, W, 3] twice -> float64 [T] similarity (1 - distance, 1 for equal frames).

    Where package or weights are absent: the reason, as a sentence.
    """
    if importlib.util.find_spec("dreamsim") is None:
        return "the package dreamsim is absent (pip install 'wfm-sim[dreamsim]')"
    cache = Path(os.environ.get("DREAMSIM_CACHE", "~/.cache/dreamsim")).expanduser()
    missing = [name for name in NEEDED if not (cache / name).exists()]
    if missing or not any((cache / name).exists() for name in ADAPTERS):
        return f"DreamSim's weights are not in {cache} (no {(missing or ADAPTERS)[0]}; DREAMSIM_CACHE names the folder)"
    import torch
    from dreamsim import dreamsim
    from PIL import Image

    model, preprocess = dreamsim(pretrained=True, device=device, cache_dir=str(cache))

    def similarity(truth: NDArray[np.uint8], found: NDArray[np.uint8]) -> NDArray[np.float64]:
        values = []
        with torch.inference_mode():
            for a, b in zip(truth, found, strict=True):
                one, two = (preprocess(Image.fromarray(frame)).to(device) for frame in (a, b))
                values.append(1 - float(model(one, two)))
        return np.array(values)

    return similarity
