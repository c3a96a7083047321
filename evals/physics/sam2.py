"""SAM 2 (Ravi et al. 2024, arXiv 2408.00714) as the tracker, through transformers (extra `cosmos`).

Only weights that are on the disk are used: a folder or a repository of the hub's cache, named by WFM_SIM_SAM2 (default
facebook/sam2.1-hiera-tiny). Frames are prepared here (square, ImageNet's mean and deviation), so torchvision, which
transformers' own processor wants, is not needed.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wfm_sim.evals.physics.tracking import check

DEFAULT = "facebook/sam2.1-hiera-tiny"
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Track = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.uint8]]


def load_sam2(device: str = "cpu") -> Track | str:
    """A function like `tracking.track`; where package or weights are absent, the reason, as a sentence."""
    if importlib.util.find_spec("transformers") is None:
        return "the package transformers is absent (pip install 'wfm-sim[cosmos]')"
    from transformers import Sam2VideoModel

    name = os.environ.get("WFM_SIM_SAM2", DEFAULT)
    try:
        model = Sam2VideoModel.from_pretrained(name, local_files_only=True)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return f"no weights of SAM 2 on the disk for {name!r} ({first}); WFM_SIM_SAM2 names a folder or a repository"
    model = model.eval().to(device)
    return lambda frames, first_mask: sam2_track(model, frames, first_mask)


def sam2_track(model: Any, frames: NDArray[np.uint8], first_mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Follow every object of the first mask with a transformers Sam2VideoModel; arguments and result as `track`."""
    import torch
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    check(frames, first_mask)
    height, width = first_mask.shape
    labels = [int(value) for value in np.unique(first_mask) if value]
    out = np.zeros((len(frames), height, width), np.uint8)
    out[0] = first_mask
    if not labels:
        return out
    side, device = int(model.config.prompt_encoder_config.image_size), model.device
    session = Sam2VideoInferenceSession(
        video_height=height, video_width=width, inference_device=device, dtype=model.dtype
    )
    with torch.inference_mode():
        for t, frame in enumerate(frames):
            pixels = _prepare(frame, side)
            if t == 0:
                session.add_new_frame(pixels, 0)
                for label in labels:
                    mask = (first_mask == label).astype(np.float32)
                    mask = cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR) >= 0.5
                    index = session.obj_id_to_idx(label)
                    session.add_mask_inputs(index, 0, torch.from_numpy(mask)[None, None].float().to(device))
                session.obj_with_new_inputs = list(labels)
                model(inference_session=session, frame_idx=0)
                continue
            logits = model(inference_session=session, frame=pixels).pred_masks  # [N, 1, h, w]
            fields = torch.nn.functional.interpolate(
                logits.float(), size=(height, width), mode="bilinear", align_corners=False
            )[:, 0]
            best, which = fields.max(0)
            found = np.array(labels, np.uint8)[which.cpu().numpy()]
            out[t] = np.where(best.cpu().numpy() > 0, found, 0)
    return out


def _prepare(frame: NDArray[np.uint8], side: int) -> Any:
    """uint8 [H, W, 3] -> float32 [3, side, side], as SAM 2 was trained on."""
    import torch

    square = cv2.resize(frame, (side, side), interpolation=cv2.INTER_LINEAR).astype(np.float32) / 255
    return torch.from_numpy(((square - MEAN) / DEVIATION).astype(np.float32)).permute(2, 0, 1)[None]
