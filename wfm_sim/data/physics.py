"""The physics data set on the disk: rigid-body episodes with videos, instance masks and poses.

    DIR/manifest.json                       what it was made with, a hash per file and one over all (see `Manifest`)
    DIR/free_fall/00000/episode.json        the scene as a dictionary, seed, fps, names of the bodies, cameras
    DIR/free_fall/00000/poses.npz           times, positions, quaternions, linear, angular (see `Poses`)
    DIR/free_fall/00000/view0.mp4 ...       one video per camera
    DIR/free_fall/00000/masks.npz           view0 ...: uint8 [T, H, W], 0 is background, i + 1 is body i of `names`

    data = open_physics("DIR")
    for episode in data.episodes("dominoes"):
        episode.frames(view=0, limit=33), episode.masks(0, 33), episode.poses(), episode.camera(0)

Written by physics_writer.py.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wfm_sim.data.files import field, read_json
from wfm_sim.data.video import read_video
from wfm_sim.errors import UserError, unknown

FORMAT, VERSION = "wfm-sim-physics", 1
MANIFEST, EPISODE, POSES, MASKS = "manifest.json", "episode.json", "poses.npz", "masks.npz"

Frame = NDArray[np.uint8]
Floats = NDArray[np.float64]


class Motion(Protocol):
    """What is written of a trajectory: T moments of N dynamic bodies. Arrays as in `Poses`."""

    @property
    def times(self) -> Floats: ...
    @property
    def positions(self) -> Floats: ...
    @property
    def quaternions(self) -> Floats: ...
    @property
    def linear(self) -> Floats: ...
    @property
    def angular(self) -> Floats: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def nodes(self) -> Floats | None: ...


@dataclass(frozen=True)
class Poses:
    """A trajectory of N dynamic bodies at T moments, one per frame.

    Attributes:
        times: float64 [T], seconds.
        positions: float64 [T, N, 3], metres, world frame, z up.
        quaternions: float64 [T, N, 4], w x y z, body to world.
        linear, angular: float64 [T, N, 3], velocities in m/s and rad/s, world frame.
        names: Of the N bodies; body i has the value i + 1 in the masks.
        nodes: float64 [T, M, 3], metres: the nodes of soft bodies, one after the other; None without soft bodies.
    """

    times: Floats
    positions: Floats
    quaternions: Floats
    linear: Floats
    angular: Floats
    names: tuple[str, ...]
    nodes: Floats | None = None


@dataclass(frozen=True)
class View:
    """One static camera of an episode, for its frames as they are stored.

    Attributes:
        name: Of the camera.
        intrinsics: float64 [3, 3], pixels; the centre of the top-left pixel is (0.5, 0.5).
        world_to_camera: float64 [4, 4], OpenCV axes (x right, y down, z forward), metres.
    """

    name: str
    intrinsics: Floats
    world_to_camera: Floats


@dataclass(frozen=True)
class PhysicsEpisode:
    """One episode on the disk; nothing but its episode.json is read until asked for."""

    path: Path

    @cached_property
    def about(self) -> dict[str, Any]:
        """episode.json: format, scene_name, index, seed, fps, frames, size [H, W], names, cameras, scene, ..."""
        about = read_json(self.path / EPISODE)
        if about.get("format") != FORMAT:
            raise UserError(f"{self.path / EPISODE}: not an episode of a {FORMAT} data set")
        if about.get("version") != VERSION:
            raise UserError(f"{self.path / EPISODE}: version {about.get('version')!r}, this program reads {VERSION}")
        return about

    def _field(self, name: str) -> Any:
        return field(self.about, name, self.path / EPISODE)

    @property
    def scene(self) -> str:
        """The scene's name, e.g. 'free_fall'."""
        return str(self._field("scene_name"))

    @property
    def index(self) -> int:
        """Its number within the scene."""
        return int(self._field("index"))

    @property
    def seed(self) -> int:
        """The seed that the scene was built from."""
        return int(self._field("seed"))

    @property
    def fps(self) -> float:
        """Frames per second of simulated time."""
        return float(self._field("fps"))

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of every frame in pixels."""
        height, width = self._field("size")
        return int(height), int(width)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the dynamic bodies; body i has the value i + 1 in the masks."""
        return tuple(self._field("names"))

    @property
    def views(self) -> int:
        """How many cameras were rendered."""
        return len(self._field("cameras"))

    def __len__(self) -> int:
        """T, the number of frames."""
        return int(self._field("frames"))

    def camera(self, view: int) -> View:
        """Camera `view`. UserError when there is none."""
        self._check_view(view)
        camera = self._field("cameras")[view]
        K, world_to_camera = (np.array(camera[key], dtype=np.float64) for key in ("intrinsics", "world_to_camera"))
        return View(str(camera["name"]), K, world_to_camera)

    def frames(self, view: int, limit: int | None = None) -> NDArray[np.uint8]:
        """The video of a camera, or its first `limit` frames: uint8 [T, H, W, 3].

        Raises:
            UserError: no such camera, more frames asked for than there are, a broken file, or one of another size.
        """
        self._check_view(view)
        count, path = self._count(limit), self.path / f"view{view}.mp4"
        frames = read_video(path, limit=count)
        expected = (count, *self.size, 3)
        if frames.shape != expected:
            raise UserError(f"{path}: {_said(frames)}, {EPISODE} promises {_shape(expected)}")
        return frames

    def masks(self, view: int, limit: int | None = None) -> NDArray[np.uint8]:
        """Instance masks of a camera, or the first `limit`: uint8 [T, H, W], 0 background, i + 1 body i of `names`.

        Raises:
            UserError: no such camera, no masks, more asked for than there are, a broken file, or one of another size.
        """
        self._check_view(view)
        count, path = self._count(limit), self.path / MASKS
        masks = _read_arrays(path, (f"view{view}",))[0]
        if masks.dtype != np.uint8 or masks.shape != (len(self), *self.size):
            raise UserError(f"{path}: {_said(masks)}, {EPISODE} promises uint8 {_shape((len(self), *self.size))}")
        if masks.max(initial=0) > len(self.names):
            raise UserError(f"{path}: body {int(masks.max())} in a mask, but the episode names {len(self.names)}")
        return masks[:count]

    def poses(self) -> Poses:
        """Where every dynamic body was. UserError for a file that is missing, broken or of another length."""
        path, T, N = self.path / POSES, len(self), len(self.names)
        shapes = {"times": (T,), "positions": (T, N, 3), "quaternions": (T, N, 4), "linear": (T, N, 3)}
        shapes["angular"] = (T, N, 3)
        arrays: dict[str, Any] = dict(zip(shapes, _read_arrays(path, tuple(shapes)), strict=True))
        for name, shape in shapes.items():
            if arrays[name].shape != shape:
                raise UserError(f"{path}: {name} is {_said(arrays[name])}, {EPISODE} promises {_shape(shape)}")
        nodes = None
        if self._field("nodes"):
            nodes = _read_arrays(path, ("nodes",))[0]
            if nodes.shape != (T, self._field("nodes"), 3):
                raise UserError(f"{path}: nodes are {_said(nodes)}, {EPISODE} promises {self._field('nodes')}")
        return Poses(**arrays, names=self.names, nodes=nodes)

    def _check_view(self, view: int) -> None:
        if not 0 <= view < self.views:
            raise UserError(f"{self.path}: no view {view}, it has views 0 to {self.views - 1}")

    def _count(self, limit: int | None) -> int:
        if limit is not None and not 1 <= limit <= len(self):
            raise UserError(f"{self.path}: {limit} frames asked for, it has {len(self)}")
        return len(self) if limit is None else limit


@dataclass(frozen=True)
class PhysicsData:
    """A data set of episodes, found by `open_physics`.

    Attributes:
        root: Its folder.
        manifest: manifest.json: format, version, complete, settings, engine, renderer, files {path: sha256}, hash.
    """

    root: Path
    manifest: dict[str, Any]

    @property
    def settings(self) -> dict[str, Any]:
        """What it was generated with."""
        return dict(field(self.manifest, "settings", self.root / MANIFEST))

    @property
    def complete(self) -> bool:
        """False while it is being generated, or when that was stopped."""
        return bool(self.manifest.get("complete"))

    @property
    def hash(self) -> str:
        """'sha256:...' over all files; '' while it is not complete."""
        return str(self.manifest.get("hash", ""))

    @property
    def scenes(self) -> tuple[str, ...]:
        """Names of the scenes that have episodes, in the order of the settings."""
        return tuple(name for name in self.settings["scenes"] if any((self.root / name).glob("[0-9]*")))

    def episodes(self, scene: str) -> list[PhysicsEpisode]:
        """Every episode of a scene that is there, by number. UserError for a scene that has none."""
        if scene not in self.scenes:
            raise unknown(f"scene in {self.root}", scene, self.scenes)
        return [PhysicsEpisode(path) for path in sorted((self.root / scene).glob("[0-9]*")) if path.is_dir()]

    def episode(self, scene: str, index: int) -> PhysicsEpisode:
        """Episode `index` of a scene. UserError when it is not there."""
        if scene not in self.scenes:
            raise unknown(f"scene in {self.root}", scene, self.scenes)
        path = self.root / episode_folder(scene, index)
        if not path.is_dir():
            raise UserError(f"{self.root}: no episode {index} of {scene}")
        return PhysicsEpisode(path)


def open_physics(root: str | Path) -> PhysicsData:
    """The data set in a folder, complete or not.

    Raises:
        UserError: no such folder, or none that `wfm-sim physics generate` made.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise UserError(f"{root}: no such folder")
    if not (root / MANIFEST).is_file():
        raise UserError(f"{root}: no physics data set (no {MANIFEST}); `wfm-sim physics generate --out DIR` makes one")
    manifest = read_json(root / MANIFEST)
    if manifest.get("format") != FORMAT:
        raise UserError(f"{root / MANIFEST}: format {manifest.get('format')!r}, expected {FORMAT!r}")
    if manifest.get("version") != VERSION:
        raise UserError(f"{root / MANIFEST}: version {manifest.get('version')!r}, this program reads {VERSION}")
    return PhysicsData(root, manifest)


def episode_folder(scene: str, index: int) -> str:
    """Of an episode, relative to the data set's folder: 'free_fall/00000'."""
    return f"{scene}/{index:05d}"


def _read_arrays(path: Path, names: tuple[str, ...]) -> list[NDArray[Any]]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        with np.load(path) as archive:
            return [archive[name] for name in names]
    except KeyError as error:
        raise UserError(f"{path}: {error.args[0]}") from None
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zipfile.zlib.error) as error:  # type: ignore[attr-defined]
        raise UserError(f"{path}: broken file ({error})") from None


def _shape(shape: Sequence[int]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def _said(array: NDArray[Any]) -> str:
    return f"{array.dtype} {_shape(array.shape)}"
