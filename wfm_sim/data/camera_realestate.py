"""RealEstate10K (Zhou et al., "Stereo Magnification", 2018): camera files, and their frames where one has them.

A camera file is a line with the video's address, then one line of 19 columns per frame: timestamp [us]; fx, fy, cx, cy
in units of the picture's width and height; k1, k2; and a 3x4 matrix, world to camera, by rows, OpenCV axes. The data
set has no pictures: a clip is read from <id>/<timestamp>.png (or jpg), or from <id>.mp4, beside the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wfm_sim.camera import CameraPose, Intrinsics
from wfm_sim.data.camera_clip import CameraClip
from wfm_sim.data.camera_images import SUFFIXES, Lens, load_views, read_image
from wfm_sim.data.files import atomic_path
from wfm_sim.errors import UserError

COLUMNS = 19
_FRAME_FOLDERS = ("", "frames", "images", "../frames", "../images")
_VIDEO_FOLDERS = ("", "videos", "../videos")


@dataclass(frozen=True)
class RealEstateCameras:
    """A camera file.

    Attributes:
        id: The file's name.
        url: Its first line.
        timestamps: int64 [T], microseconds.
        intrinsics: float64 [T, 4]: fx, fy, cx, cy in units of the picture's width and height.
        distortion: float64 [T, 2]: k1, k2 (zero in all that were published).
        poses: float64 [T, 4, 4], camera to world, OpenCV axes. Known up to scale.
    """

    id: str
    url: str
    timestamps: NDArray[np.int64]
    intrinsics: NDArray[np.float64]
    distortion: NDArray[np.float64]
    poses: NDArray[np.float64]

    def __len__(self) -> int:
        """T, the number of poses."""
        return len(self.poses)


def read_realestate10k_poses(path: str | Path) -> RealEstateCameras:
    """A camera file. UserError when it is missing, has no poses, a line of other than 19 numbers, or no rotation."""
    path = Path(path)
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path}: not a readable text file ({error})") from None
    url = lines.pop(0) if lines and not lines[0][0].isdigit() else ""
    if not lines:
        raise UserError(f"{path}: has no poses, expected a line of {COLUMNS} numbers for each frame")
    rows = np.empty((len(lines), COLUMNS))
    for number, line in enumerate(lines):
        try:
            values = [float(word) for word in line.split()]
        except ValueError:
            values = []
        if len(values) != COLUMNS:
            raise UserError(
                f"{path}: pose {number + 1} has {len(line.split())} columns, expected {COLUMNS} numbers "
                "(timestamp, fx fy cx cy, k1 k2, 3x4 world to camera)"
            )
        rows[number] = values
    try:
        poses = CameraPose(rows[:, 7:].reshape(-1, 3, 4), "world-to-camera").c2w
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    timestamps = rows[:, 0].astype(np.int64)
    return RealEstateCameras(path.stem, url, timestamps, rows[:, 1:5], rows[:, 5:7], poses)


def write_realestate10k_poses(path: str | Path, cameras: RealEstateCameras) -> None:
    """Write a camera file, with nine decimals as the published ones."""
    matrices = CameraPose(cameras.poses).w2c[:, :3].reshape(-1, 12)
    rows = np.hstack((cameras.intrinsics, cameras.distortion, matrices))
    lines = [cameras.url]
    for timestamp, row in zip(cameras.timestamps, rows, strict=True):
        lines.append(f"{int(timestamp)} " + " ".join(f"{value:.9f}" for value in row))
    with atomic_path(path) as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")


def frames_of(path: Path) -> Path | None:
    """Where the frames of a camera file are: a folder of pictures named by timestamp, or a video."""
    for place in _FRAME_FOLDERS:
        folder = path.parent / place / path.stem
        if folder.is_dir():
            return folder
    for place in _VIDEO_FOLDERS:
        for suffix in (".mp4", ".mkv", ".webm"):
            video = path.parent / place / (path.stem + suffix)
            if video.is_file():
                return video
    return None


def read_realestate10k(
    path: str | Path, size: tuple[int, int] | None = None, frames: str | Path | None = None
) -> CameraClip:
    """A clip: the poses of a camera file that have a frame; `extras["missing"]` lists the timestamps without one.

    Args:
        path: The camera file.
        size: (height, width) of the frames, see `load_views`; None as stored.
        frames: A folder of pictures named by timestamp, or a video: the whole one, or one cut to a frame per pose.
            None: looked for beside the file.

    Raises:
        UserError: as `read_realestate10k_poses`, no frames, or a video that is shorter than the timestamps say.
    """
    path = Path(path)
    cameras = read_realestate10k_poses(path)
    source = Path(frames) if frames is not None else frames_of(path)
    if source is None:
        raise UserError(
            f"{path}: no frames beside it, expected {path.stem}/<timestamp>.png or {path.stem}.mp4; "
            "read_realestate10k_poses reads the poses alone"
        )
    images, keep = _folder(source, cameras) if source.is_dir() else _video(source, cameras)
    missing = [int(t) for t, there in zip(cameras.timestamps, keep, strict=True) if not there]
    chosen = np.flatnonzero(keep)
    lenses = []
    for t, image in zip(chosen, images, strict=True):
        pinhole = Intrinsics.normalised(cameras.intrinsics[t], (image.shape[0], image.shape[1]))
        lenses.append(Lens(pinhole, tuple(cameras.distortion[t].tolist())))
    what = [f"{source}: frame {int(cameras.timestamps[t])}" for t in chosen]
    stack, intrinsics, _ = load_views([partial(np.asarray, i) for i in images], lenses, size, what)
    gaps = np.diff(cameras.timestamps)
    fps = 1e6 / float(np.median(gaps)) if len(gaps) and np.median(gaps) > 0 else 30.0
    extras = {"missing": missing, "timestamps": cameras.timestamps[chosen], "url": cameras.url}
    poses = cameras.poses[chosen]
    return CameraClip(stack, poses, intrinsics, None, False, fps, cameras.id, str(path), extras)


def _folder(folder: Path, cameras: RealEstateCameras) -> tuple[list[NDArray[np.uint8]], NDArray[np.bool_]]:
    there = {file.stem: file for file in sorted(folder.iterdir()) if file.suffix in SUFFIXES}
    by_time = {int(stem): file for stem, file in there.items() if stem.isdigit()}
    keep = np.array([int(t) in by_time for t in cameras.timestamps])
    if not keep.any():
        raise UserError(
            f"{folder}: has no picture of any of the {len(keep)} poses, e.g. {int(cameras.timestamps[0])}.png"
        )
    return [read_image(by_time[int(t)]) for t in cameras.timestamps[keep]], keep


def _video(video: Path, cameras: RealEstateCameras) -> tuple[list[NDArray[np.uint8]], NDArray[np.bool_]]:
    from wfm_sim.data.video import read_some_frames

    counted = []

    def first(count: int) -> NDArray[np.int64]:
        counted.append(count)
        return np.zeros(1, np.int64)

    _, rate = read_some_frames(video, first)
    (count,) = counted
    if count == len(cameras):
        wanted = np.arange(count)
    else:
        wanted = np.round(cameras.timestamps * 1e-6 * rate).astype(np.int64)
        if wanted.max() >= count:
            raise UserError(
                f"{video}: has {count} frames at {rate:.2f} a second, but the poses reach to frame {wanted.max()} "
                f"(and are {len(cameras)}, for a video cut to them)"
            )
    once, back = np.unique(wanted, return_inverse=True)
    frames, _ = read_some_frames(video, lambda _: once)
    return [frames[i] for i in back], np.ones(len(cameras), bool)
