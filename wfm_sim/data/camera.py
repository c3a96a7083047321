"""Clips with known cameras, from whichever format they are in, and what training and evals take from them.

clips = open_camera_dataset("datasets/rooms", size=(96, 128))
clip = sample_clip(clips[0], frames=16, baseline=(0.3, 2.0), rng=np.random.default_rng(0))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, overload

import numpy as np

from wfm_sim.data.camera_clip import CameraClip
from wfm_sim.data.camera_colmap import find_model, read_colmap
from wfm_sim.data.camera_nerfstudio import FILE, read_nerfstudio
from wfm_sim.data.camera_realestate import frames_of, read_realestate10k
from wfm_sim.errors import UserError, unknown

_FORMATS = (
    "scenes with transforms.json (DL3DV-10K, nerfstudio, wfm-sim rooms generate), RealEstate10K camera files with "
    "their frames, or a COLMAP model beside images/"
)


class CameraDataset(Sequence[CameraClip]):
    """Clips that are read when they are asked for, by number or by id.

    Attributes:
        ids: Their names, in order.
        format: dl3dv, realestate10k or colmap.
    """

    def __init__(self, root: Path, form: str, readers: Mapping[str, Callable[[], CameraClip]]) -> None:
        self.root, self.format, self._readers = root, form, readers
        self.ids = tuple(readers)

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int | str) -> CameraClip: ...
    @overload
    def __getitem__(self, index: slice) -> list[CameraClip]: ...
    def __getitem__(self, index: int | str | slice) -> CameraClip | list[CameraClip]:
        if isinstance(index, slice):
            return [self[name] for name in self.ids[index]]
        if isinstance(index, str):
            if index not in self._readers:
                raise unknown("clip", index, self.ids)
            return replace(self._readers[index](), id=index)
        return self[self.ids[index]]

    def __iter__(self) -> Iterator[CameraClip]:
        return (self[name] for name in self.ids)


def open_camera_dataset(root: str | Path, size: tuple[int, int] | None = None) -> CameraDataset:
    """The clips of a folder; only names of files are read yet.

    Args:
        root: A scene with transforms.json or a folder with such scenes up to two levels below; a folder with
            RealEstate10K camera files (or one of them), frames beside them; a COLMAP model beside images/, or a folder
            with such scenes.
        size: (height, width) of all frames, cut from the middle where the shape differs; None as stored.

    Raises:
        UserError: no such folder, an empty one, none of these formats, poses without any frames, or a size below 1.
    """
    root = Path(root).expanduser()
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise UserError(f"a size of {size}; expected (height, width) in pixels")
    if root.is_file() and root.name == FILE:
        root = root.parent
    if root.is_file() and root.suffix == ".txt":
        if not _is_camera_file(root):
            raise UserError(f"{root}: no RealEstate10K camera file, expected lines of 19 numbers")
        return CameraDataset(root, "realestate10k", {root.stem: partial(read_realestate10k, root, size)})
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    scenes = _scenes(root)
    if scenes:
        return CameraDataset(root, "dl3dv", {n: partial(read_nerfstudio, f, size) for n, f in scenes.items()})
    models = _models(root)
    if models:
        return CameraDataset(root, "colmap", {n: partial(read_colmap, f, None, size) for n, f in models.items()})
    files = [path for path in (*sorted(root.glob("*.txt")), *sorted(root.glob("*/*.txt"))) if _is_camera_file(path)]
    if files:
        names = [path.stem for path in files]
        if len(set(names)) < len(names):  # of one name in several folders
            names = [path.relative_to(root).with_suffix("").as_posix() for path in files]
        readers = {n: (path, partial(read_realestate10k, path, size)) for n, path in zip(names, files, strict=True)}
        found = {name: reader for name, (path, reader) in readers.items() if frames_of(path) is not None}
        if not found:
            raise UserError(
                f"{root}: {len(files)} RealEstate10K camera files and no frames, expected e.g. "
                f"{files[0].stem}/<timestamp>.png or {files[0].stem}.mp4; read_realestate10k_poses reads poses alone"
            )
        return CameraDataset(root, "realestate10k", found)
    if not any(root.iterdir()):
        raise UserError(f"{root}: the folder is empty, expected {_FORMATS}")
    raise UserError(f"{root}: no clips with cameras, expected {_FORMATS}")


def _scenes(root: Path) -> dict[str, Path]:
    if (root / FILE).is_file():
        return {root.name: root}
    found = [*root.glob(f"*/{FILE}"), *root.glob(f"*/*/{FILE}")]
    folders = {path.parent.relative_to(root): path.parent for path in found}
    # a folder that begins with a dot is one that is being written
    return {name.as_posix(): folders[name] for name in sorted(folders) if not any(p[0] == "." for p in name.parts)}


def _models(root: Path) -> dict[str, Path]:
    own = find_model(root)
    if own is not None and ((root / "images").is_dir() or not any(root.glob("*/images"))):
        return {root.name: own}
    found = {folder.name: find_model(folder) for folder in sorted(root.glob("*/")) if (folder / "images").is_dir()}
    return {name: model for name, model in found.items() if model is not None}


def _is_camera_file(path: Path) -> bool:
    """Whether its second line has 19 columns."""
    try:
        with path.open(encoding="utf-8") as file:
            lines = [file.readline(4096), file.readline(4096)]
    except (UnicodeDecodeError, OSError):
        return False
    return any(len(line.split()) == 19 for line in lines)


def sample_clip(clip: CameraClip, frames: int, baseline: tuple[float, float], rng: np.random.Generator) -> CameraClip:
    """So many evenly spaced frames of a clip whose cameras span a wanted distance.

    Args:
        clip: At least `frames` long.
        frames: At least 1.
        baseline: The largest distance of any chosen camera from the first lies in this range, in the clip's units.
        rng: Draws among the strides that can do it, then among the beginnings.

    Raises:
        UserError: a length of 0, more frames than there are, a range that is none, or one that no choice meets.
    """
    low, high = baseline
    if frames < 1 or frames > len(clip):
        raise UserError(f"clip {clip.id!r} has {len(clip)} frames; a sample takes 1 to {len(clip)}, not {frames}")
    if not 0 <= low <= high:
        raise UserError(f"a baseline of {low} to {high}; expected two lengths, the smaller one first")
    centres = clip.poses[:, :3, 3]
    fitting: dict[int, list[int]] = {}
    spans: list[float] = []
    for stride in range(1, max(1, (len(clip) - 1) // max(frames - 1, 1)) + 1):
        for begin in range(len(clip) - stride * (frames - 1)):
            chosen = centres[begin : begin + stride * (frames - 1) + 1 : stride]
            span = float(np.linalg.norm(chosen - chosen[0], axis=1).max())
            spans.append(span)
            if low <= span <= high:
                fitting.setdefault(stride, []).append(begin)
    if not fitting:
        raise UserError(
            f"clip {clip.id!r}: {frames} frames span {min(spans):.3g} to {max(spans):.3g}, none {low:.3g} to {high:.3g}"
        )
    stride = int(rng.choice(sorted(fitting)))
    begin = int(rng.choice(fitting[stride]))
    return take(clip, np.arange(begin, begin + stride * (frames - 1) + 1, stride))


def take(clip: CameraClip, index: Any) -> CameraClip:
    """The frames at these positions, evenly spaced or not; `extras["index"]` keeps the positions."""
    index = np.asarray(index, int)
    if index.size == 0:
        raise UserError(f"clip {clip.id!r}: a clip needs at least one frame")
    gaps = np.diff(index)
    fps = clip.fps / float(gaps[0]) if len(gaps) and gaps[0] > 0 else clip.fps
    extras = {**clip.extras, "index": index}
    for name in ("names", "timestamps"):
        if name in extras:
            extras[name] = [extras[name][i] for i in index]
    depth = None if clip.depth is None else clip.depth[index]
    return replace(clip, frames=clip.frames[index], poses=clip.poses[index], depth=depth, fps=fps, extras=extras)


def scaled(clip: CameraClip, factor: float) -> CameraClip:
    """All lengths times `factor`: translations and depth. The result is not metric unless the factor is 1."""
    if not np.isfinite(factor) or factor <= 0:
        raise UserError(f"a scale of {factor}; expected a number above 0")
    poses = clip.poses.copy()
    poses[:, :3, 3] *= factor
    depth = None if clip.depth is None else clip.depth * np.float32(factor)
    return replace(
        clip, poses=poses, depth=depth, metric=clip.metric and factor == 1, extras={**clip.extras, "scale": factor}
    )


def normalise_scale(clip: CameraClip, span: float = 1.0) -> CameraClip:
    """The clip scaled so that the camera farthest from the first one is `span` away; `extras["scale"]` is the factor.

    For clips that are known up to scale (RealEstate10K, COLMAP), whose lengths mean nothing across clips.

    Raises:
        UserError: the camera does not move.
    """
    centres = clip.poses[:, :3, 3]
    far = float(np.linalg.norm(centres - centres[0], axis=1).max())
    if far < 1e-9:
        raise UserError(f"clip {clip.id!r}: the camera does not move, its scale cannot be normalised")
    return scaled(clip, span / far)
