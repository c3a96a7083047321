"""COLMAP models: cameras and images, text (.txt) or binary (.bin), beside a folder of pictures.

Read here and not by pycolmap, for two reasons: 3D points, most of a model, are not needed; and a points3D.bin that is
cut short makes pycolmap ask for all of the memory. The formats are those of https://colmap.github.io/format.html.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wfm_sim.camera import CameraPose, Intrinsics
from wfm_sim.data.camera_clip import CameraClip
from wfm_sim.data.camera_images import Lens, load_views, natural, read_image
from wfm_sim.errors import UserError

# COLMAP's number -> (name, parameters); the order of the file `models.h`.
MODELS = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
}
_COUNTS = dict(MODELS.values())


@dataclass(frozen=True)
class ColmapImage:
    """One registered image: its name, its camera's number and its pose, world to camera [4, 4]."""

    name: str
    camera: int
    w2c: NDArray[np.float64]


def is_model(folder: Path) -> bool:
    """Whether a folder has cameras and images of a model."""
    return any(all((folder / f"{name}{s}").is_file() for name in ("cameras", "images")) for s in (".txt", ".bin"))


def find_model(root: Path) -> Path | None:
    """The model in a folder, or at most two folders below it: the first in the order of names (sparse/0 before /1)."""
    candidates = [root, *sorted(root.glob("*/")), *sorted(root.glob("*/*/"))]
    return next((folder for folder in candidates if is_model(folder)), None)


def read_colmap_model(folder: str | Path) -> tuple[dict[int, Lens], list[ColmapImage]]:
    """Cameras by number, and images in the natural order of their names.

    Raises:
        UserError: no model there, a file that is broken, a camera model other than SIMPLE_PINHOLE, PINHOLE,
            SIMPLE_RADIAL, RADIAL and OPENCV, no images, or a rotation that is none.
    """
    folder = Path(folder)
    if not is_model(folder):
        raise UserError(f"{folder}: no COLMAP model, expected cameras and images as .txt or .bin")
    binary = not (folder / "images.txt").is_file() or not (folder / "cameras.txt").is_file()
    cameras = (_binary_cameras if binary else _text_cameras)(folder)
    images = (_binary_images if binary else _text_images)(folder)
    if not images:
        raise UserError(f"{folder}: the COLMAP model has no images")
    for image in images:
        if image.camera not in cameras:
            raise UserError(f"{folder}: {image.name!r} was taken by camera {image.camera}, which is not in the model")
    return cameras, sorted(images, key=lambda image: natural(image.name))


def read_colmap(model: str | Path, images: str | Path | None = None, size: tuple[int, int] | None = None) -> CameraClip:
    """A clip of the registered images that are there; `extras["missing"]` lists the others.

    Args:
        model: The folder with the model.
        images: The folder with the pictures; None: images/ beside the model or above it.
        size: (height, width) of the frames, see `load_views`; None as stored.

    Raises:
        UserError: as `read_colmap_model`, or no image that exists.
    """
    model = Path(model)
    cameras, registered = read_colmap_model(model)
    folder = Path(images) if images is not None else _images_beside(model)
    if folder is None or not folder.is_dir():
        raise UserError(f"{model}: no pictures, expected a folder images/ in or beside it")
    found = [image for image in registered if (folder / image.name).is_file()]
    missing = [image.name for image in registered if not (folder / image.name).is_file()]
    if not found:
        raise UserError(f"{folder}: none of the {len(registered)} images of {model} is there, e.g. {missing[0]!r}")
    frames, intrinsics, _ = load_views(
        [partial(read_image, folder / image.name) for image in found],
        [cameras[image.camera] for image in found],
        size,
        [folder / image.name for image in found],
    )
    poses = CameraPose(np.stack([image.w2c for image in found]), "world-to-camera").c2w
    names = [image.name for image in found]
    extras = {"missing": missing, "names": names}
    return CameraClip(frames, poses, intrinsics, None, False, 1.0, folder.parent.name, str(model), extras)


def _images_beside(model: Path) -> Path | None:
    for folder in (model, model.parent, model.parent.parent):
        if (folder / "images").is_dir():
            return folder / "images"
    return None


def _lens(folder: Path, model: str, size: tuple[int, int], p: list[float]) -> Lens:
    """COLMAP's parameters as OpenCV's."""
    height, width = size
    if model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL"):
        fx, fy, (cx, cy) = p[0], p[0], p[1:3]
        distortion = (*p[3:], *[0.0] * (7 - len(p))) if len(p) > 3 else ()
    else:
        fx, fy, cx, cy = p[:4]
        distortion = tuple(p[4:])
    try:
        return Lens(Intrinsics(fx, fy, cx, cy, height, width), distortion)
    except UserError as error:
        raise UserError(f"{folder}: {error}") from None


def _check_model(folder: Path, model: str, count: int) -> None:
    if model not in _COUNTS:
        raise UserError(f"{folder}: cameras of the model {model} are not read; expected {', '.join(_COUNTS)}")
    if count != _COUNTS[model]:
        raise UserError(f"{folder}: a {model} camera with {count} parameters, expected {_COUNTS[model]}")


def _image(folder: Path, name: str, camera: int, quaternion: list[float], translation: list[float]) -> ColmapImage:
    """quaternion: w, x, y, z."""
    from scipy.spatial.transform import Rotation

    if not np.isfinite([*quaternion, *translation]).all() or abs(np.linalg.norm(quaternion) - 1) > 1e-3:
        raise UserError(f"{folder}: {name!r}: the quaternion is not of unit length, or a number is not finite")
    w, x, y, z = quaternion
    w2c = np.eye(4)
    w2c[:3, :3], w2c[:3, 3] = Rotation.from_quat([x, y, z, w]).as_matrix(), translation
    return ColmapImage(name, camera, w2c)


def _text_lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file ({error})") from None
    return [line for line in lines if not line.startswith("#")]


def _text_cameras(folder: Path) -> dict[int, Lens]:
    cameras = {}
    for line in _text_lines(folder / "cameras.txt"):
        words = line.split()
        if not words:
            continue
        if len(words) < 5:
            raise UserError(f"{folder / 'cameras.txt'}: a broken line, {line[:60]!r}")
        _check_model(folder, words[1], len(words) - 4)
        try:
            number, width, height = int(words[0]), int(words[2]), int(words[3])
            parameters = [float(word) for word in words[4:]]
        except ValueError:
            raise UserError(f"{folder / 'cameras.txt'}: a broken line, {line[:60]!r}") from None
        cameras[number] = _lens(folder, words[1], (height, width), parameters)
    return cameras


def _text_images(folder: Path) -> list[ColmapImage]:
    """Two lines each: the pose, and the image's points (which may be none: an empty line)."""
    path = folder / "images.txt"
    lines = _text_lines(path)
    while lines and not lines[0].strip():
        lines.pop(0)
    images = []
    for line in lines[::2]:
        words = line.split(maxsplit=9)
        if not words:
            continue
        try:
            pose = [float(word) for word in words[1:8]]
            camera, name = int(words[8]), words[9].strip()
        except (ValueError, IndexError):
            raise UserError(f"{path}: a broken line, {line[:60]!r}") from None
        images.append(_image(folder, name, camera, pose[:4], pose[4:]))
    return images


class _Bytes:
    """A binary file, read in order; cut short it is a UserError."""

    def __init__(self, path: Path) -> None:
        self.path, self.data, self.at = path, path.read_bytes(), 0

    def take(self, form: str) -> tuple[int | float, ...]:
        size = struct.calcsize("<" + form)
        if self.at + size > len(self.data):
            raise UserError(f"{self.path}: is cut short ({len(self.data)} bytes)")
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += size
        return values

    def name(self) -> str:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise UserError(f"{self.path}: is cut short ({len(self.data)} bytes)")
        text = self.data[self.at : end].decode("utf-8", "replace")
        self.at = end + 1
        return text

    def skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self.data):
            raise UserError(f"{self.path}: is cut short ({len(self.data)} bytes)")


def _binary_cameras(folder: Path) -> dict[int, Lens]:
    file = _Bytes(folder / "cameras.bin")
    cameras = {}
    for _ in range(int(file.take("Q")[0])):
        number, model, width, height = (int(v) for v in file.take("iiQQ"))
        if model not in MODELS:
            known = ", ".join(_COUNTS)
            raise UserError(f"{folder}: cameras of COLMAP's model number {model} are not read; expected {known}")
        name, count = MODELS[model]
        cameras[number] = _lens(folder, name, (height, width), [float(v) for v in file.take("d" * count)])
    return cameras


def _binary_images(folder: Path) -> list[ColmapImage]:
    file = _Bytes(folder / "images.bin")
    images = []
    for _ in range(int(file.take("Q")[0])):
        file.take("i")
        pose = [float(v) for v in file.take("7d")]
        camera = int(file.take("i")[0])
        name = file.name()
        file.skip(24 * int(file.take("Q")[0]))  # x, y and the number of the 3D point
        images.append(_image(folder, name, camera, pose[:4], pose[4:]))
    return images
