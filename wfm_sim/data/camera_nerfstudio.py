"""Scenes of DL3DV-10K and of nerfstudio: a folder with transforms.json and pictures in images/, images_2, _4 or _8.

DL3DV-10K ships some of these folders (the 960p archive has images_4 alone), while the poses always name images/ and
w, h and the intrinsics are of the full size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wfm_sim.camera import CameraPose, Intrinsics
from wfm_sim.data.camera_clip import CameraClip
from wfm_sim.data.camera_images import SUFFIXES, Lens, load_views, natural, read_depth, read_image
from wfm_sim.data.files import field, read_json
from wfm_sim.errors import UserError

FILE = "transforms.json"
FACTORS = (1, 2, 4, 8)
MODELS = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")


def read_nerfstudio(folder: str | Path, size: tuple[int, int] | None = None, factor: int | None = None) -> CameraClip:
    """One scene.

    Args:
        folder: Has transforms.json (or is that file).
        size: (height, width) of the frames, see `load_views`; None as stored.
        factor: 1, 2, 4, 8: read images, images_2, ... Without it the smallest that `size` can be made of, and without
            a size the largest that is there.

    Returns:
        The frames that exist, in the natural order of their names; `extras["missing"]` lists the others,
        `extras["factor"]` says which folder was read.

    Raises:
        UserError: no such file or one that is no transforms.json, no frames, no image that exists, a pose or a lens
            that is none.
    """
    path = Path(folder)
    path = path if path.suffix == ".json" else path / FILE
    content = read_json(path)
    rows = field(content, "frames", path)
    if not isinstance(rows, list) or not rows:
        raise UserError(f"{path}: has no frames")
    rows = sorted(rows, key=lambda row: natural(str(field(row, "file_path", path))))
    factor, images = _choose(path, content, rows, size, factor)
    found = [(row, image) for row, image in zip(rows, images, strict=True) if image is not None]
    missing = [str(row["file_path"]) for row, image in zip(rows, images, strict=True) if image is None]
    if not found:
        raise UserError(f"{path}: none of its {len(rows)} images exists, the first is {rows[0]['file_path']!r}")
    matrices = [_matrix(row, path) for row, _ in found]
    lenses = [_lens(content, row, image, path, factor) for row, image in found]
    unit, fps = (_positive(content, *pair, path) for pair in (("depth_unit_scale_factor", 0.001), ("fps", 1.0)))
    depths = [_depth_path(path, row, factor) for row, _ in found]
    has_depth = all(depth is not None for depth in depths)
    frames, intrinsics, depth = load_views(
        [partial(read_image, image) for _, image in found],
        lenses,
        size,
        [image for _, image in found],
        [partial(read_depth, depth, unit) for depth in depths if depth is not None] if has_depth else None,
    )
    extras: dict[str, Any] = {"missing": missing, "factor": factor}
    extras["names"] = [str(row["file_path"]) for row, _ in found]
    extras |= {name: content[name] for name in ("room", "motion") if name in content}
    return CameraClip(
        frames,
        CameraPose(np.stack(matrices), "camera-to-world", "opengl").c2w,
        intrinsics,
        depth,
        metric=bool(content.get("metric", False)),
        fps=fps,
        id=path.parent.name,
        source=str(path),
        extras=extras,
    )


def _matrix(row: Mapping[str, Any], path: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    value = field(row, "transform_matrix", path)
    try:
        matrix = np.array(value, np.float64)
    except (TypeError, ValueError):
        matrix = np.zeros(0)
    if matrix.shape not in ((4, 4), (3, 4)):
        raise UserError(f"{path}: the transform_matrix of {row['file_path']!r} is not 4x4 numbers")
    try:
        return CameraPose(matrix, "camera-to-world", "opengl").matrix
    except UserError as error:
        raise UserError(f"{path}: {row['file_path']!r}: {error}") from None


def _choose(
    path: Path, content: Mapping[str, Any], rows: list[dict[str, Any]], size: tuple[int, int] | None, factor: int | None
) -> tuple[int, list[Path | None]]:
    """The factor, and the file of each row in its folder (None where it is missing)."""
    if factor is not None and factor not in FACTORS:
        raise UserError(f"images are stored at a factor of 1, 2, 4 or 8, not {factor}")
    there = {
        f: [_image_path(path, str(row["file_path"]), f) for row in rows]
        for f in (FACTORS if factor is None else (factor,))
    }
    counts = {f: sum(image is not None for image in images) for f, images in there.items()}
    if factor is None:
        some = [f for f in FACTORS if counts[f] == max(counts.values())]
        enough = [f for f in some if size is not None and _holds(content, f, size, path)]
        factor = enough[-1] if enough else some[0]
    return factor, there[factor]


def _holds(content: Mapping[str, Any], factor: int, size: tuple[int, int], path: Path) -> bool:
    width, height = (_number(content, name, path, 0.0) for name in ("w", "h"))
    return height / factor >= size[0] and width / factor >= size[1]


def _image_path(path: Path, name: str, factor: int, kind: str = "images") -> Path | None:
    """The file that a row names, in <kind>_<factor>/ beside transforms.json; None where there is none."""
    relative = Path(name)
    if factor != 1:
        parent = relative.parent.name or kind
        base = parent if not parent.rpartition("_")[2].isdigit() else parent.rpartition("_")[0]
        relative = relative.parent.parent / f"{base}_{factor}" / relative.name
    found = path.parent / relative
    if found.is_file():
        return found
    # Blender's files leave the suffix out; a copy at a lower resolution may be of the other kind
    return next((other for s in SUFFIXES if (other := found.with_name(found.stem + s)).is_file()), None)


def _depth_path(path: Path, row: Mapping[str, Any], factor: int) -> Path | None:
    name = row.get("depth_file_path")
    return _image_path(path, str(name), factor, "depth") if name else None


def _lens(content: Mapping[str, Any], row: Mapping[str, Any], image: Path, path: Path, factor: int) -> Lens:
    """From the row's own fields, or those of the file."""
    model = str(row.get("camera_model", content.get("camera_model", "OPENCV"))).upper()
    if model not in MODELS:
        raise UserError(f"{path}: cameras of the model {model!r} are not read; expected one of {', '.join(MODELS)}")
    merged = {**content, **row}
    if "w" not in merged or "h" not in merged:
        height, width = read_image(image).shape[:2]
        merged |= {"w": width * factor, "h": height * factor}
    width, height = (_number(merged, name, path) for name in ("w", "h"))
    if "fl_x" not in merged and "camera_angle_x" in merged:
        merged["fl_x"] = width / 2 / math.tan(_number(merged, "camera_angle_x", path) / 2)
    fx = _number(merged, "fl_x", path)
    fy, cx, cy = (_number(merged, k, path, d) for k, d in (("fl_y", fx), ("cx", width / 2), ("cy", height / 2)))
    distortion = tuple(_number(merged, name, path, 0.0) for name in ("k1", "k2", "p1", "p2", "k3"))
    try:
        return Lens(Intrinsics(fx, fy, cx, cy, round(height), round(width)), distortion)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _number(content: Mapping[str, Any], name: str, path: Path, default: float | None = None) -> float:
    value = content.get(name, default)
    if value is None:
        raise UserError(f"{path}: missing field {name!r}")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{path}: {name} is {value!r}, expected a number")
    return float(value)


def _positive(content: Mapping[str, Any], name: str, default: float, path: Path) -> float:
    value = _number(content, name, path, default)
    if value <= 0:
        raise UserError(f"{path}: {name} is {value!r}, expected a number above 0")
    return value
