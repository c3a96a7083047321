"""A clip with known cameras on the disk, as DL3DV-10K lays it out: transforms.json of nerfstudio, and images_4/.

<scene>/transforms.json            w, h, fl_x, fl_y, cx, cy of the full size; camera to world, OpenGL axes
<scene>/images_4/frame_00001.png   a fourth of it; the poses say images/frame_00001.png
<scene>/depth_4/frame_00001.png    16 bits, millimetres, 0 unknown (not part of DL3DV)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.camera import CameraPose
from wfm_sim.data.camera_clip import CameraClip
from wfm_sim.data.files import atomic_folder, write_json
from wfm_sim.errors import UserError, unknown

FORMATS = {"png": (), "jpg": (95,)}
DOWNSCALE = 4
MILLIMETRES = 1000.0


def write_camera_scene(
    folder: str | Path,
    clip: CameraClip,
    *,
    image_format: str = "png",
    about: dict[str, Any] | None = None,
) -> None:
    """Write a clip as one scene; the folder appears when all of it is there.

    Args:
        folder: Of the scene; must not exist.
        clip: Depth is written where the clip has it: to the millimetre, up to 65 m.
        image_format: png, or jpg at quality 95.
        about: More fields of transforms.json.

    Raises:
        UserError: something is at `folder` already, or an unknown format.
    """
    folder = Path(folder)
    if folder.exists():
        raise UserError(f"{folder}: exists already")
    if image_format not in FORMATS:
        raise unknown("image format", image_format, FORMATS)
    folder.parent.mkdir(parents=True, exist_ok=True)
    names = [f"frame_{t + 1:05d}" for t in range(len(clip))]
    with atomic_folder(folder) as partial:
        images, depths = partial / f"images_{DOWNSCALE}", partial / f"depth_{DOWNSCALE}"
        images.mkdir()
        for name, frame in zip(names, clip.frames, strict=True):
            (images / f"{name}.{image_format}").write_bytes(encode_image(frame, image_format))
        if clip.depth is not None:
            depths.mkdir()
            for name, depth in zip(names, clip.depth, strict=True):
                (depths / f"{name}.png").write_bytes(encode_depth(depth))
        write_json(partial / "transforms.json", _transforms(clip, names, image_format) | (about or {}))


def _transforms(clip: CameraClip, names: list[str], image_format: str) -> dict[str, Any]:
    k = clip.intrinsics
    matrices = CameraPose(clip.poses).to("camera-to-world", "opengl").matrix
    frames = []
    for name, matrix in zip(names, matrices, strict=True):
        frame = {"file_path": f"images/{name}.{image_format}", "transform_matrix": matrix.tolist()}
        if clip.depth is not None:
            frame["depth_file_path"] = f"depth/{name}.png"
        frames.append(frame)
    return {
        "camera_model": "OPENCV",
        "w": k.width * DOWNSCALE,
        "h": k.height * DOWNSCALE,
        "fl_x": k.fx * DOWNSCALE,
        "fl_y": k.fy * DOWNSCALE,
        "cx": k.cx * DOWNSCALE,
        "cy": k.cy * DOWNSCALE,
        **dict.fromkeys(("k1", "k2", "p1", "p2"), 0.0),
        "fps": clip.fps,
        "metric": clip.metric,
        "frames": frames,
    }


def encode_image(frame: NDArray[np.uint8], image_format: str) -> bytes:
    """uint8 [H, W, 3], RGB, as the bytes of a file."""
    import cv2

    options = [] if image_format == "png" else [cv2.IMWRITE_JPEG_QUALITY, *FORMATS[image_format]]
    return bytes(cv2.imencode(f".{image_format}", np.ascontiguousarray(frame[..., ::-1]), options)[1])


def encode_depth(depth: NDArray[np.float32]) -> bytes:
    """float32 [H, W], metres, as a PNG of 16 bits, millimetres."""
    import cv2

    millimetres = np.clip(np.round(np.nan_to_num(depth) * MILLIMETRES), 0, 65535).astype(np.uint16)
    return bytes(cv2.imencode(".png", millimetres)[1])
