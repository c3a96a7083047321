"""Where clips come from: files and folders, data sets with cameras, or anything that hands out `NamedClip`s.

    source = open_clips("clips/", ReadOptions(frames=16))
    source.names, source.load(0)

A world model or an environment joins by the protocol `ClipSource`: names, an identity that decides what the clips hold,
and `load(i)`, which may imagine the clip then and there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wfm_sim.camera import Intrinsics
from wfm_sim.data.video import read_some_frames
from wfm_sim.errors import UserError

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")
VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".gif")


@dataclass(frozen=True)
class NamedClip:
    """One clip to score, see `score_clip`.

    Attributes:
        name: Unique in its source.
        frames: uint8 [T, H, W, 3].
        intrinsics: None where unknown.
        commanded: float64 [T, 4, 4], camera to world, OpenCV axes; None where there is no commanded or known path.
        masks: bool [T, H, W], True on things that move.
        fps: Frames per second.
    """

    name: str
    frames: NDArray[np.uint8]
    intrinsics: Intrinsics | None = None
    commanded: NDArray[np.float64] | None = None
    masks: NDArray[np.bool_] | None = None
    fps: float = 10.0


class ClipSource(Protocol):
    """Clips, by position. What is picklable and light may set `portable`: worker processes then load the clips."""

    @property
    def names(self) -> Sequence[str]:
        """Of all clips, each once."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """JSON-able: what decides the clips; compared when a run is resumed."""

    @property
    def portable(self) -> bool:
        """Whether workers may have a copy."""

    def load(self, index: int) -> NamedClip:
        """A clip. UserError where it cannot be had: one failed clip."""


@dataclass(frozen=True)
class ReadOptions:
    """How files become clips.

    Attributes:
        every: Take every so many frames,
        frames: and of these so many, evenly spaced from the first to the last; 0 takes all.
        intrinsics: fx, fy, cx, cy in pixels of the frames.
        fov: Or the vertical field of view in degrees.
        masks: A folder of masks, see `_masks`.
    """

    every: int = 1
    frames: int = 16
    intrinsics: tuple[float, float, float, float] | None = None
    fov: float | None = None
    masks: Path | None = None

    def __post_init__(self) -> None:
        if self.every < 1 or self.frames < 0 or self.frames == 1:
            raise UserError(
                f"every {self.every}, frames {self.frames}: every must be 1 or more, frames 2 or more, or 0"
            )
        if self.intrinsics is not None and self.fov is not None:
            raise UserError("intrinsics and a field of view were both given; one of them is enough")
        if self.fov is not None and not 1 <= self.fov <= 170:
            raise UserError(f"a field of view of {self.fov:g} degrees: expected 1 to 170, vertical")

    def choose(self, count: int) -> NDArray[np.int64]:
        """Which of `count` frames."""
        index = np.arange(0, count, self.every)
        if self.frames and len(index) > self.frames:
            index = index[np.linspace(0, len(index) - 1, self.frames).round().astype(int)]
        return index.astype(np.int64)

    def camera(self, size: tuple[int, int]) -> Intrinsics | None:
        """The intrinsics of frames of `size`; UserError where they cannot be theirs."""
        if self.fov is not None:
            return Intrinsics.of_fov(self.fov, size)
        if self.intrinsics is None:
            return None
        found = Intrinsics(*self.intrinsics, *size)
        height, width = size
        if not (0 < found.cx < width and 0 < found.cy < height):
            raise UserError(
                f"intrinsics: the principal point {found.cx:g}, {found.cy:g} is not inside of frames of "
                f"{width}x{height} pixels; expected fx,fy,cx,cy in pixels of these frames"
            )
        return found


@dataclass(frozen=True)
class Files:
    """Clips of a path: `paths` are videos or folders of images, all under `root`."""

    root: Path
    paths: tuple[Path, ...]
    options: ReadOptions
    portable: bool = True

    @property
    def names(self) -> Sequence[str]:
        """The paths below the root, without a video's extension where that is enough to tell them apart."""
        full = [p.relative_to(self.root).as_posix() if p != self.root else p.resolve().name for p in self.paths]
        short = [Path(n).with_suffix("").as_posix() if self.paths[i].is_file() else n for i, n in enumerate(full)]
        return short if len(set(short)) == len(short) else full

    @property
    def identity(self) -> Mapping[str, Any]:
        """The path and how it is read."""
        return {"source": str(self.root.resolve()), **_plain(self.options)}

    def probe(self) -> None:
        """UserError where the only clip cannot be read; of several, that is one failed clip and no bad input."""
        if len(self.names) == 1:
            self.load(0)

    def load(self, index: int) -> NamedClip:
        """Read a clip."""
        path, name = self.paths[index], self.names[index]
        if path.is_file():
            chosen: list[NDArray[np.int64]] = []

            def wanted(count: int) -> NDArray[np.int64]:
                chosen[:] = [self.options.choose(count), np.array([count])]
                return chosen[0]

            frames, fps = read_some_frames(path, wanted)
            labels: Sequence[str] | int = int(chosen[1][0])
            kept = chosen[0]
        else:
            images = _images(path)
            kept = self.options.choose(len(images))
            frames, fps = _read_images([images[i] for i in kept]), 1.0
            labels = [image.stem for image in images]
        size = (frames.shape[1], frames.shape[2])
        masks = None
        if self.options.masks is not None:
            single = len(self.paths) == 1 and not (self.options.masks / name).is_dir()
            masks = _masks(self.options.masks if single else self.options.masks / name, labels, kept, size)
        return NamedClip(name, frames, self.options.camera(size), None, masks, fps)


@dataclass(frozen=True)
class Cameras:
    """Clips of a data set with known cameras."""

    root: Path
    ids: tuple[str, ...]
    options: ReadOptions
    portable: bool = True

    @property
    def names(self) -> Sequence[str]:
        """The data set's."""
        return self.ids

    @property
    def identity(self) -> Mapping[str, Any]:
        """The path and how it is read."""
        return {"source": str(self.root.resolve()), "cameras": "known", **_plain(self.options)}

    def probe(self) -> None:
        """UserError where the only clip cannot be read; of several, that is one failed clip and no bad input."""
        if len(self.names) == 1:
            self.load(0)

    def load(self, index: int) -> NamedClip:
        """Read a clip with its poses and intrinsics."""
        from wfm_sim.data.camera import open_camera_dataset

        clip = open_camera_dataset(self.root)[index]
        kept = self.options.choose(len(clip))
        size = (clip.frames.shape[1], clip.frames.shape[2])
        masks = None
        if self.options.masks is not None:
            single = len(self.ids) == 1 and not (self.options.masks / self.ids[index]).is_dir()
            folder = self.options.masks if single else self.options.masks / self.ids[index]
            masks = _masks(folder, len(clip), kept, size)
        return NamedClip(self.ids[index], clip.frames[kept], clip.intrinsics, clip.poses[kept], masks, clip.fps)


def open_clips(path: str | Path, options: ReadOptions | None = None) -> Files | Cameras:
    """The clips of a path: a video, a folder of images (one clip), of videos, of folders of images, or a data set.

    Raises:
        UserError: nothing of the kind is there.
    """
    options, path = options or ReadOptions(), Path(path).expanduser()
    if options.masks is not None and not options.masks.is_dir():
        raise UserError(f"{options.masks}: no such folder of masks")
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_file():
        if path.suffix.lower() in VIDEOS:
            return Files(path.parent, (path,), options)
        if path.suffix.lower() in IMAGES:
            raise UserError(f"{path} is one image; 3D consistency needs a video, or a folder of images")
        raise UserError(f"{path}: expected a video ({', '.join(VIDEOS)}), or a folder")
    if has_cameras(path):
        if options.intrinsics is not None or options.fov is not None:
            raise UserError(f"{path} says its cameras itself; leave intrinsics and field of view out")
        from wfm_sim.data.camera import open_camera_dataset

        return Cameras(path, tuple(open_camera_dataset(path).ids), options)
    if _images(path):
        if len(_images(path)) == 1:
            raise UserError(f"{path} holds one image; 3D consistency needs at least two frames of a scene")
        return Files(path, (path,), options)
    found = [p for p in sorted(path.rglob("*"), key=_natural) if _visible(p, path)]
    clips = [p for p in found if p.is_file() and p.suffix.lower() in VIDEOS]
    clips += [p for p in found if p.is_dir() and len(_images(p)) > 0]
    if not clips:
        raise UserError(f"{path} holds no images and no videos (looked for {', '.join((*IMAGES, *VIDEOS))})")
    return Files(path, tuple(sorted(clips, key=_natural)), options)


def has_cameras(root: Path) -> bool:
    """Whether a folder looks like a data set with known cameras (transforms.json, a COLMAP model, RealEstate10K)."""
    if any(
        next(root.glob(pattern), None) for pattern in ("transforms.json", "*/transforms.json", "*/*/transforms.json")
    ):
        return True
    for model in ("", "*/", "sparse/0/", "*/sparse/", "*/sparse/0/"):
        for end in ("txt", "bin"):
            if any((p.parent / f"images.{end}").is_file() for p in root.glob(f"{model}cameras.{end}")):
                return True
    texts = [*sorted(root.glob("*.txt"))[:3], *sorted(root.glob("*/*.txt"))[:3]]
    return any(_is_realestate(text) for text in texts)


def _is_realestate(text: Path) -> bool:
    with text.open(errors="replace") as file:
        lines = [file.readline(4096), file.readline(4096)]
    return any(len(line.split()) == 19 for line in lines)


def _images(folder: Path) -> list[Path]:
    return sorted((p for p in folder.iterdir() if p.suffix.lower() in IMAGES and p.is_file()), key=_natural)


def _visible(path: Path, root: Path) -> bool:
    return not any(part.startswith(".") for part in path.relative_to(root).parts)


def _natural(path: Path) -> tuple[tuple[int, int | str], ...]:
    """frame_2 before frame_10."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", str(path)) if part)


def _read_images(paths: Sequence[Path]) -> NDArray[np.uint8]:
    frames: list[NDArray[np.uint8]] = []
    for path in paths:
        frame = _image(path)
        if frames and frame.shape != frames[0].shape:
            (h, w), (ours, wide) = frames[0].shape[:2], frame.shape[:2]
            raise UserError(
                f"{path} has {wide}x{ours} pixels, {paths[0].name} has {w}x{h}: expected frames of one size"
            )
        frames.append(frame)
    return np.stack(frames)


def _image(path: Path, gray: bool = False) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("L" if gray else "RGB"), np.uint8)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise UserError(f"{path}: not a readable image ({str(error).split(':')[0]})") from None


def _masks(
    folder: Path, frames: Sequence[str] | int, kept: NDArray[np.int64], size: tuple[int, int]
) -> NDArray[np.bool_]:
    """bool [T, H, W] of a clip: images in `folder`, not black where something moves.

    Of a folder of images, each mask has its image's name (any extension); of a video, there is one per frame, in order.
    """
    there = _images(folder) if folder.is_dir() else []
    if isinstance(frames, int):
        if len(there) != frames:
            raise UserError(f"{folder}: {len(there)} masks for a clip of {frames} frames, expected one for each")
        chosen = [there[i] for i in kept]
    else:
        by_name = {p.stem: p for p in there}
        missing = [frames[i] for i in kept if frames[i] not in by_name]
        if missing:
            raise UserError(f"{folder}: no mask for frame {missing[0]} ({len(missing)} of {len(kept)} are missing)")
        chosen = [by_name[frames[i]] for i in kept]
    masks = [_image(p, gray=True) > 0 for p in chosen]
    wrong = next((i for i, m in enumerate(masks) if m.shape != size), None)
    if wrong is not None:
        height, width = masks[wrong].shape
        raise UserError(f"{chosen[wrong]} has {width}x{height} pixels, its frame has {size[1]}x{size[0]}")
    return np.stack(masks)


def _plain(options: ReadOptions) -> dict[str, Any]:
    content = asdict(options)
    return {**content, "masks": None if options.masks is None else str(options.masks.resolve())}
