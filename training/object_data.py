"""What is known of the objects and the gripper in collected episodes, beside their frames (`training.frames`)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track
from scipy.optimize import least_squares

from wfm_sim.data import open_dataset
from wfm_sim.data.files import atomic_path, read_json
from wfm_sim.errors import UserError
from wfm_sim.training.frames import Frames, load_frames

SEEN_AREA = 8.0  # pixels of a 64 px frame; less of an object is not looked for
WHOLE = 0.9  # share of its largest visible area from which an object counts as unhidden


@dataclass(frozen=True)
class Bodies:
    """N frames of E episodes, one after the other, as in `Frames`; K objects, NaN where an episode has fewer.

    Attributes:
        frames: The frames themselves.
        gripper: float32 [N, 7], commanded poses, base frame.
        position: float32 [N, K, 3], metres, base frame.
        yaw: float32 [N, K], radians.
        place: float32 [N, K, 2], pixels: where each centre is in the frame, seen or hidden.
        projection: float64 [3, 4], base frame to pixels, the mean camera.
    """

    frames: Frames
    gripper: NDArray[np.float32]
    position: NDArray[np.float32]
    yaw: NDArray[np.float32]
    place: NDArray[np.float32]
    projection: NDArray[np.float64]

    @property
    def present(self) -> NDArray[np.bool_]:
        """bool [N, K]: there is such an object in the episode."""
        return np.isfinite(self.position[..., 0])

    @property
    def hand(self) -> NDArray[np.float32]:
        """float32 [N, 2], pixels: where the gripper is in the frame, through the camera of its episode."""
        shift = np.nanmean(self.place - project(self.projection, self.position), axis=1)
        return np.asarray((project(self.projection, self.gripper[:, :3]) + shift).astype(np.float32))

    @property
    def seen(self) -> NDArray[np.bool_]:
        """bool [N, K]: enough of it is visible."""
        return np.asarray(self.frames.objects[..., 2] >= SEEN_AREA)


def load_bodies(
    data: Path, size: tuple[int, int], cache: Path, split: str | None = None, skip: tuple[str, ...] = ()
) -> Bodies:
    """Read a data set of `wfm-sim collect` once and keep it under `cache`; arguments as of `load_frames`.

    Raises:
        UserError: no episode, or episodes that do not say where objects and gripper are.
    """
    frames = load_frames(data, size, cache, split, skip)
    path = frames.folder / "bodies.npz"
    if not path.is_file():
        with atomic_path(path) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, **_read(data, split, skip, frames))
    with np.load(path, allow_pickle=False) as archive:
        return Bodies(frames, **{name: archive[name] for name in archive.files})


def _read(data: Path, split: str | None, skip: tuple[str, ...], frames: Frames) -> dict[str, NDArray[np.generic]]:
    dataset, count = open_dataset(data, split), frames.objects.shape[1]
    names = [name for name in dataset.ids if name not in skip]
    gripper, position, yaw = [], [], []
    for name in track(names, description="reading objects", transient=True):
        path = dataset.annotation_path(name) if hasattr(dataset, "annotation_path") else None
        about = {} if path is None else read_json(path)
        for needed in ("agent_pos", "object_positions", "object_yaws"):
            if needed not in about:
                raise UserError(
                    f"{data}: episode {name} has no {needed!r}; `wfm-sim collect` of this version writes it"
                )
        p, y = np.array(about["object_positions"], np.float32), np.array(about["object_yaws"], np.float32)
        more = count - p.shape[1]
        gripper.append(np.array(about["agent_pos"], np.float32))
        position.append(np.pad(p, ((0, 0), (0, more), (0, 0)), constant_values=np.nan))
        yaw.append(np.pad(y, ((0, 0), (0, more)), constant_values=np.nan))
    positions = np.concatenate(position)
    projection = fit_projection(positions, frames)
    return {
        "gripper": np.concatenate(gripper),
        "position": positions,
        "yaw": np.concatenate(yaw),
        "place": _places(positions, frames, projection),
        "projection": projection,
    }


def project(projection: NDArray[np.float64], positions: NDArray[np.floating]) -> NDArray[np.float64]:
    """[..., 3] metres -> [..., 2] pixels."""
    seen = positions @ projection[:, :3].T + projection[:, 3]
    return np.asarray(seen[..., :2] / seen[..., 2:])


def fit_projection(positions: NDArray[np.float32], frames: Frames) -> NDArray[np.float64]:
    """The camera that best explains where unhidden objects are seen: [3, 4], its last number 1."""
    objects = np.asarray(frames.objects)
    rows, which = np.nonzero(_whole(frames))
    if len(rows) < 50:
        raise UserError("too few unhidden objects to learn the camera from; collect more episodes")
    picks = np.random.default_rng(0).permutation(len(rows))[:8000]
    points, pixels = positions[rows[picks], which[picks]].astype(np.float64), objects[rows[picks], which[picks], :2]

    def errors(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((project(np.append(p, 1.0).reshape(3, 4), points) - pixels).ravel())

    # a linear first guess: pixels as an affine function of positions
    linear = np.linalg.lstsq(np.c_[points, np.ones(len(points))], pixels, rcond=None)[0].T  # [2, 4]
    found = least_squares(errors, np.concatenate((linear.ravel(), np.zeros(3))), loss="soft_l1", x_scale="jac")
    return np.append(found.x, 1.0).reshape(3, 4)


def _places(positions: NDArray[np.float32], frames: Frames, projection: NDArray[np.float64]) -> NDArray[np.float32]:
    """Where centres are in each frame: through the mean camera, shifted as the episode's objects say."""
    places = project(projection, positions)
    off, whole = np.asarray(frames.objects)[..., :2] - places, _whole(frames)
    for begin, end in pairwise(frames.offsets):
        if whole[begin:end].any():
            places[begin:end] += np.median(off[begin:end][whole[begin:end]], axis=0)
    return np.asarray(places.astype(np.float32))


def _whole(frames: Frames) -> NDArray[np.bool_]:
    """bool [N, K]: next to nothing hides the object (it shows about as much as it ever does in its episode)."""
    area = np.asarray(frames.objects)[..., 2]
    most = np.maximum.reduceat(area, frames.offsets[:-1], axis=0)
    most = np.repeat(most, np.diff(frames.offsets), axis=0)
    return np.asarray((area >= SEEN_AREA) & (area >= WHOLE * most))
