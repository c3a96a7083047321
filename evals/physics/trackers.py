"""Which tracker makes the masks of a predicted video, and its floor: how well it does on the truth itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wfm_sim.data.physics import PhysicsData, PhysicsEpisode
from wfm_sim.errors import unknown
from wfm_sim.evals.physics import appearance, tracking
from wfm_sim.evals.physics.metrics import frame_iou

Track = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.uint8]]
TRACKERS = ("colour", "sam2")


@dataclass(frozen=True)
class Tracker:
    """A tracker that was loaded, or the reason why it was not.

    Attributes:
        name: For tables.
        version: Changes when its masks may.
        track: uint8 [T, H, W, 3] and the first mask, uint8 [H, W] -> uint8 [T, H, W]; None when it is not there.
        reason: Why it is not there.
    """

    name: str
    version: str
    track: Track | None
    reason: str = ""


def load_tracker(name: str = "colour", device: str = "cpu") -> Tracker:
    """The weight-free default, or SAM 2. UserError for another name."""
    if name == "colour":
        sources = [Path(str(module.__file__)).read_bytes() for module in (tracking, appearance)]
        return Tracker(tracking.NAME, hashlib.sha256(b"".join(sources)).hexdigest()[:12], tracking.track)
    if name != "sam2":
        raise unknown("tracker", name, TRACKERS)
    import os

    from wfm_sim.evals.physics.sam2 import DEFAULT, load_sam2

    found = load_sam2(device)
    weights = os.environ.get("WFM_SIM_SAM2", DEFAULT)
    return Tracker(f"SAM 2 ({weights})", weights, None if isinstance(found, str) else found,
                   found if isinstance(found, str) else "")  # fmt: skip


class Floors:
    """IoU of the tracker on ground-truth videos, kept in a file: it is the same for every model.

    Attributes:
        path: A JSON line per view that was tracked; None keeps nothing.
    """

    def __init__(self, data: PhysicsData, tracker: Tracker, frames: int, cache: Path | None) -> None:
        self.tracker, self.frames = tracker, frames
        self.path: Path | None = None
        self._known: dict[tuple[str, int, int], list[float | None]] = {}
        if cache is not None and data.hash:
            key = hashlib.sha256(f"{data.hash} {tracker.name} {tracker.version} {frames}".encode()).hexdigest()[:16]
            self.path = cache / f"physics-floor-{key}.jsonl"

    def __call__(self, episode: PhysicsEpisode, view: int) -> list[float | None]:
        """IoU of each of the first `frames` frames, averaged over objects; None where no object is to be seen."""
        key = (episode.scene, episode.index, view)
        if key not in self._known:
            self._read()  # another process may have been here
        if key not in self._known and self.tracker.track is not None:
            masks = episode.masks(view, self.frames)
            found = self.tracker.track(episode.frames(view, self.frames), masks[0])
            self._known[key] = frame_iou(masks, found, len(episode.names))
            self._keep(key)
        return self._known.get(key, [None] * self.frames)

    def _read(self) -> None:
        if self.path is None or not self.path.is_file():
            return
        for line in self.path.read_text().splitlines():
            try:
                scene, index, view, values = json.loads(line)
            except ValueError:  # the last line of a run that was killed
                continue
            self._known[scene, index, view] = values

    def _keep(self, key: tuple[str, int, int]) -> None:
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps([*key, self._known[key]]) + "\n"
        with self.path.open("a") as file:
            file.write(line)  # one short write in append mode: workers do not mix their lines
