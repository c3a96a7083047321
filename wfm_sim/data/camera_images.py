"""Photographs that share one pinhole: undistorted, cropped and scaled; what every reader of camera data sets ends with.

Everything else is told here once: OpenCV puts the centre of the first pixel at (0, 0), all of ours at (0.5, 0.5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wfm_sim.camera import Intrinsics
from wfm_sim.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".JPG", ".JPEG", ".PNG", ".webp", ".bmp")
_HALF_PIXEL = np.array([[0.0, 0.0, 0.5], [0.0, 0.0, 0.5], [0.0, 0.0, 0.0]])
_SAME = 1e-6  # pixels of focal length or principal point: below it two cameras are one


@dataclass(frozen=True)
class Lens:
    """A pinhole and OpenCV's distortion of it: k1, k2, p1, p2, k3 (k4, k5, k6 where given), in this order."""

    pinhole: Intrinsics
    distortion: tuple[float, ...] = ()

    @property
    def distorts(self) -> bool:
        """Whether any coefficient is not zero."""
        return any(self.distortion)

    def for_image(self, size: tuple[int, int], what: object) -> Lens:
        """The same lens for a picture of another size. UserError where that size has another shape."""
        height, width = size
        known = self.pinhole
        if (height, width) == (known.height, known.width):
            return self
        # images_4 of a height that 4 does not divide is rounded
        if abs(known.width * height - known.height * width) > 2 * max(known.width, known.height):
            raise UserError(
                f"{what}: is {width}x{height} pixels, its camera {known.width}x{known.height}: not the same shape"
            )
        return Lens(known.resized(size), self.distortion)


def read_image(path: Path) -> NDArray[np.uint8]:
    """uint8 [H, W, 3], RGB, as stored (no turning by EXIF: poses know nothing of it). UserError when unreadable."""
    import cv2

    image = None
    if path.is_file():
        data = np.fromfile(path, np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION) if len(data) else None
    if image is None:
        raise UserError(f"{path}: {'not a readable image' if path.is_file() else 'no such image'}")
    return np.ascontiguousarray(image[..., ::-1])


def read_depth(path: Path, unit: float = 0.001) -> NDArray[np.float32]:
    """float32 [H, W] from a PNG of 16 bits whose 1 is `unit` (metres). UserError when unreadable."""
    import cv2

    image = None
    if path.is_file():
        data = np.fromfile(path, np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    if image is None or image.ndim != 2:
        raise UserError(f"{path}: not a readable depth image (one channel)")
    return np.asarray(image * np.float32(unit), np.float32)


def common_pinhole(lens: Lens) -> Intrinsics:
    """The pinhole that pictures through this lens are brought to: the largest without a border where it distorts."""
    if not lens.distorts:
        return lens.pinhole
    import cv2

    size = (lens.pinhole.width, lens.pinhole.height)
    matrix = lens.pinhole.matrix - _HALF_PIXEL
    best, _ = cv2.getOptimalNewCameraMatrix(matrix, np.array(lens.distortion), size, alpha=0)
    fx, fy, cx, cy = best[0, 0], best[1, 1], best[0, 2] + 0.5, best[1, 2] + 0.5
    return Intrinsics(float(fx), float(fy), float(cx), float(cy), lens.pinhole.height, lens.pinhole.width)


@dataclass(frozen=True)
class Framing:
    """From pictures of a pinhole to pictures of a wanted size: the largest part of that shape, scaled."""

    source: Intrinsics
    size: tuple[int, int]

    @property
    def crop(self) -> tuple[int, int, int, int]:
        """top, left, height, width of the part, in pixels of the source."""
        height, width = self.source.height, self.source.width
        scale = min(height / self.size[0], width / self.size[1])
        h, w = max(1, round(self.size[0] * scale)), max(1, round(self.size[1] * scale))
        return (height - h) // 2, (width - w) // 2, h, w

    @property
    def intrinsics(self) -> Intrinsics:
        """Of the result."""
        top, left, h, w = self.crop
        return self.source.cropped(top, left, (h, w)).resized(self.size)

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] of the wanted size; averaged where that is smaller."""
        import cv2

        top, left, h, w = self.crop
        part = np.ascontiguousarray(image[top : top + h, left : left + w])
        if (h, w) == self.size:
            return part
        smaller = self.size[0] < h
        way = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
        return np.asarray(cv2.resize(part, self.size[::-1], interpolation=way), np.uint8)

    def apply_to_depth(self, depth: NDArray[np.float32]) -> NDArray[np.float32]:
        """float32 [H, W]: the depth nearest to the middle of each pixel; depths are never mixed."""
        top, left, h, w = self.crop
        rows = top + np.floor((np.arange(self.size[0]) + 0.5) * h / self.size[0]).astype(int)
        columns = left + np.floor((np.arange(self.size[1]) + 0.5) * w / self.size[1]).astype(int)
        return np.ascontiguousarray(depth[np.ix_(rows, columns)])


class Rectifier:
    """Brings pictures through any lens to one pinhole; maps are made once per lens."""

    def __init__(self, target: Intrinsics) -> None:
        self.target = target
        self._maps: dict[Lens, tuple[NDArray[np.float32], NDArray[np.float32]] | None] = {}

    def __call__(self, image: NDArray[np.uint8], lens: Lens) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] as the target sees it."""
        import cv2

        maps = self._map(lens)
        if maps is None:
            return image
        return np.asarray(cv2.remap(image, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)

    def depth(self, depth: NDArray[np.float32], lens: Lens) -> NDArray[np.float32]:
        """float32 [H, W], unmixed, 0 where the lens did not see."""
        import cv2

        maps = self._map(lens)
        return depth if maps is None else np.asarray(cv2.remap(depth, *maps, cv2.INTER_NEAREST), np.float32)

    def _map(self, lens: Lens) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        import cv2

        if lens not in self._maps:
            t, p = self.target, lens.pinhole
            same = (t.height, t.width) == (p.height, p.width) and np.abs(t.array - p.array).max() < _SAME
            if same and not lens.distorts:
                self._maps[lens] = None
            else:
                distortion = np.array(lens.distortion or (0.0,) * 4)
                matrices = p.matrix - _HALF_PIXEL, t.matrix - _HALF_PIXEL
                x, y = cv2.initUndistortRectifyMap(
                    matrices[0], distortion, np.eye(3), matrices[1], (t.width, t.height), cv2.CV_32FC1
                )
                self._maps[lens] = np.asarray(x, np.float32), np.asarray(y, np.float32)
        return self._maps[lens]


def load_views(
    load: Sequence[Callable[[], NDArray[np.uint8]]],
    lenses: Sequence[Lens],
    size: tuple[int, int] | None,
    what: Sequence[object],
    depth: Sequence[Callable[[], NDArray[np.float32]]] | None = None,
) -> tuple[NDArray[np.uint8], Intrinsics, NDArray[np.float32] | None]:
    """Pictures through one pinhole.

    Args:
        load: Gives picture t, uint8 [H, W, 3].
        lenses: Of each, for any size of the same shape.
        size: (height, width) wanted, cut from the middle where the shape differs; None: that of the first picture.
        what: Names of the pictures, for messages.
        depth: Gives the depth of picture t.

    Returns:
        uint8 [T, H, W, 3], the pinhole of all, and float32 [T, H, W] or None.
    """
    frames, depths = [], []
    rectify = framing = None
    for t, (get, lens) in enumerate(zip(load, lenses, strict=True)):
        image = get()
        fitted = lens.for_image((image.shape[0], image.shape[1]), what[t])
        if rectify is None or framing is None:
            target = common_pinhole(fitted)
            rectify = Rectifier(target)
            framing = Framing(target, size or (target.height, target.width))
        frames.append(framing.apply(rectify(image, fitted)))
        if depth is not None:
            values = depth[t]()
            lens_of_depth = lens.for_image((values.shape[0], values.shape[1]), f"depth of {what[t]}")
            depths.append(framing.apply_to_depth(rectify.depth(values, lens_of_depth)))
    assert framing is not None, "at least one picture"
    return np.stack(frames), framing.intrinsics, np.stack(depths) if depth is not None else None


def natural(name: str) -> tuple[object, ...]:
    """A key that puts frame_2 before frame_10."""
    import re

    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part)
