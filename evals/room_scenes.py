"""Data sets of walks through furnished rooms, rendered and written in parallel. `generate` is the entry point.

Scene i follows from (seed, i, settings) alone, and exists when its folder does. So a run that was stopped or killed at
any moment is completed by the same call again, with any number of workers, to exactly the same set.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wfm_sim.data.camera_clip import CameraClip
from wfm_sim.data.camera_writer import FORMATS, write_camera_scene
from wfm_sim.data.files import exclusive, read_json, remove_partial_files, write_json
from wfm_sim.errors import UserError, unknown
from wfm_sim.workers import leave_if_orphaned, run_jobs

MANIFEST = "rooms.json"
SCENES_PER_SEED = 1_000_000
MOTIONS = ("walk", "joystick", "mixed")
JOYSTICK_SHARE = 1 / 3  # of the scenes of a mixed set


@dataclass(frozen=True)
class RoomSettings:
    """What decides the content of a data set; kept in its manifest and compared when a run is resumed.

    Attributes:
        seed: Of the set. Scene i is room seed * 1,000,000 + i: sets of different seeds share no room.
        frames: Per scene.
        size: (height, width) in pixels.
        fps: Of walks: sets how far one goes between frames.
        vertical_fov: Degrees.
        supersample: Samples per pixel along each axis.
        motion: "walk" (always parallax), "joystick" (one command at a time, turns on the spot), or "mixed".
        image_format: png or jpg.
        depth: Whether to write it.
    """

    seed: int = 0
    frames: int = 33
    size: tuple[int, int] = (96, 128)
    fps: float = 10.0
    vertical_fov: float = 60.0
    supersample: int = 2
    motion: str = "walk"
    image_format: str = "png"
    depth: bool = True

    def __post_init__(self) -> None:
        """Raises UserError for a number out of range or an unknown name."""
        for name, least in (("seed", 0), ("frames", 1)):
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}, not {getattr(self, name)}")
        if not 8 <= min(self.size) <= max(self.size) <= 2048:
            raise UserError(f"frames are 8 to 2048 pixels a side, not {self.size[0]}x{self.size[1]}")
        if not 1 <= self.supersample <= 8:
            raise UserError(f"supersample must be 1 to 8 samples along each axis of a pixel, not {self.supersample}")
        if not 1 <= self.fps <= 240:
            raise UserError(f"fps must be 1 to 240 frames per second, not {self.fps}")
        if not 10 <= self.vertical_fov <= 120:
            raise UserError(f"the vertical field of view must be 10 to 120 degrees, not {self.vertical_fov}")
        if self.motion not in MOTIONS:
            raise unknown("motion", self.motion, MOTIONS)
        if self.image_format not in FORMATS:
            raise unknown("image format", self.image_format, FORMATS)


@dataclass(frozen=True)
class RoomsResult:
    """Scenes there now, how many of them this run wrote, and in how many seconds."""

    scenes: int
    written: int
    seconds: float


def scene_name(index: int) -> str:
    """The folder of scene `index`."""
    return f"room_{index:06d}"


def generate(
    root: str | Path,
    scenes: int,
    settings: RoomSettings | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> RoomsResult:
    """Write scenes 0 .. scenes-1 that are not there yet.

    Args:
        root: The data set's folder; made if need be.
        scenes: How many there should be in the end. A set may be completed with more.
        settings: Everything else, which must stay.
        workers: Processes, each with one thread.
        progress: Called with (scenes there, scenes wanted) after each one.

    Raises:
        UserError: a number out of range, a folder made with other settings or with something else in it, another run
            at work in it, or a worker that died.
    """
    settings = settings or RoomSettings()
    root = Path(root).expanduser()
    if not 1 <= scenes <= SCENES_PER_SEED or workers < 1:
        raise UserError(f"{scenes} scenes by {workers} workers; expected 1 to {SCENES_PER_SEED}, and at least 1")
    if root.exists() and not root.is_dir():
        raise UserError(f"{root}: exists and is not a folder")
    root.mkdir(parents=True, exist_ok=True)
    with exclusive(root / ".generate.lock", f"{root}: another run is generating there"):
        _resume(root, settings)
        remove_partial_files(root)
        missing = [index for index in range(scenes) if not (root / scene_name(index)).is_dir()]
        begun, done = time.monotonic(), scenes - len(missing)
        if progress is not None:
            progress(done, scenes)
        try:
            for _ in run_jobs(partial(_make_worker, root, settings), missing, workers):
                done += 1
                if progress is not None:
                    progress(done, scenes)
        finally:
            remove_partial_files(root)
        there = sum(1 for path in root.glob("room_*") if path.is_dir())
        return RoomsResult(there, len(missing), time.monotonic() - begun)


def render_scene(settings: RoomSettings, index: int) -> CameraClip:
    """Scene `index` of a set, metric, with depth; `extras` has motion, room and what stands in it."""
    from wfm_sim.assets.rooms import build_room, joystick_path, walk
    from wfm_sim.envs.rooms import RoomRenderer

    seed = settings.seed * SCENES_PER_SEED + index
    motion = settings.motion
    if motion == "mixed":
        share = np.random.default_rng([seed, 6004]).uniform()
        motion = "joystick" if share < JOYSTICK_SHARE else "walk"
    room = build_room(seed)
    if motion == "walk":
        poses = walk(room, seed, settings.frames, settings.fps)
    else:
        poses = joystick_path(room, seed, settings.frames)
    with RoomRenderer(room, settings.size, settings.vertical_fov, settings.supersample) as renderer:
        views = [renderer.render(pose) for pose in poses]
        intrinsics = renderer.intrinsics
    return CameraClip(
        np.stack([frame for frame, _ in views]),
        poses,
        intrinsics,
        np.stack([depth for _, depth in views]),
        metric=True,
        fps=settings.fps,
        id=scene_name(index),
        extras={"room": seed, "motion": motion, "room_size": list(room.size), "furniture": list(room.furniture)},
    )


def _resume(root: Path, settings: RoomSettings) -> None:
    """Compare with the manifest that is there, or write one. It also names every version of the code that wrote."""
    path = root / MANIFEST
    wanted: dict[str, Any] = asdict(settings) | {"size": list(settings.size)}
    code: list[str] = []
    if path.exists():
        there = read_json(path)
        code = list(there.get("code", []))
        for name, value in wanted.items():
            found = there.get("settings", {}).get(name)
            if found != value:
                raise UserError(f"{root}: was generated with {name} {found!r}, not {value!r}; choose another folder")
    elif any(not p.name.startswith(".") for p in root.iterdir()):
        raise UserError(f"{root} holds files but no {MANIFEST}: name an empty or a new folder")
    version = _code()
    write_json(path, {"format": "wfm-sim rooms 1", "settings": wanted, "code": list(dict.fromkeys((*code, version)))})


def _code() -> str:
    """Changes with the sources of rooms, renderer and writer, which the settings do not tell."""
    from wfm_sim.assets import rooms as assets
    from wfm_sim.data import camera_writer
    from wfm_sim.envs import rooms as renderer

    files = sorted(Path(str(assets.__file__)).parent.glob("*.py"))
    files += [Path(str(module.__file__)) for module in (camera_writer, renderer)]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def _make_worker(root: Path, settings: RoomSettings) -> Callable[[int], int]:
    import cv2

    cv2.setNumThreads(1)

    def work(index: int) -> int:
        clip = render_scene(settings, index)
        if not settings.depth:
            clip = CameraClip(clip.frames, clip.poses, clip.intrinsics, None, True, clip.fps, clip.id, "", clip.extras)
        leave_if_orphaned()
        write_camera_scene(root / scene_name(index), clip, image_format=settings.image_format, about=clip.extras)
        return index

    return work
