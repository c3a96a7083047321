"""What a scoring run looks like: clips of truth, prediction, difference and masks, a 3D recording, a submission.

    show("runs/physics/nano-rigid", "datasets/physics", episodes=1)

Predictions are made again (every entrant's are a function of the query), masks are tracked again; nothing of the
records changes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wfm_sim.data.files import atomic_path, field, read_json
from wfm_sim.data.physics import PhysicsData, PhysicsEpisode, open_physics
from wfm_sim.data.video import write_video
from wfm_sim.errors import UserError
from wfm_sim.evals.physics.entrants import Entrant, Query, load_entrant
from wfm_sim.evals.physics.recording import Recorded, write_recording
from wfm_sim.evals.physics.submission import physics_submission
from wfm_sim.evals.physics.summary import read_summary
from wfm_sim.evals.physics.trackers import Tracker, load_tracker
from wfm_sim.evals.submission import ClipLink, RecordingLink, Submission, slug, write_submission

RECORDING = "physics.rrd"
CELL = 144  # pixels of a picture in a clip
COLUMNS = ("truth", "prediction", "difference x2", "masks: true outline, tracked colour")
# Distinct hues for objects 1, 2, ...; they repeat where a scene has more.
PALETTE = np.array(
    [cv2.cvtColor(np.array([[[h, 220, 255]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0] for h in range(0, 180, 20)], np.uint8
)


def show(
    run: Path,
    data: str | Path | PhysicsData,
    *,
    model: str | None = None,
    episodes: int = 1,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Submission:
    """Write clips/, physics.rrd and submission.json into the folder of a finished scoring run.

    Args:
        run: A folder of `wfm-sim physics score`.
        data: The data set that was scored.
        model: What was scored, as `score` was told; None for what the run calls itself, which will do but for paths.
        episodes: Of each scene, its first ones.
        device: Where the model computes.
        progress: Called with (episodes done, episodes in all).

    Raises:
        UserError: no finished run, other data than those it scored, or no prediction that could be made again.
    """
    summary = read_summary(run)
    data = data if isinstance(data, PhysicsData) else open_physics(data)
    if field(field(summary, "data", run), "hash", run) != data.hash:
        raise UserError(f"{run}: it did not score {data.root} but another data set; name that one with --data")
    config = field(read_json(run / "config.json"), "settings", run / "config.json")
    name = model or str(summary["entrant"])
    entrant, tracker = load_entrant(name, data, device), load_tracker(summary["settings"]["tracker"], device)
    if (entrant.name, entrant.identity) != (config["entrant"], config["identity"]):
        raise UserError(f"{run}: {name} is not what was scored; score it again, or say with --model what it was")
    chosen = [e for scene in summary["scenes"] for e in data.episodes(scene)[:episodes]]
    links, recorded = [], []
    for i, episode in enumerate(chosen):
        shown = _predict(entrant, tracker, episode, summary)
        path = f"clips/{slug(f'{episode.scene}-{episode.index:05d}')}.mp4"
        (run / "clips").mkdir(exist_ok=True)
        write_video(run / path, shown.grid(), episode.fps)
        caption = f"{episode.scene} {episode.index}: {', '.join(COLUMNS)}"
        links.append(ClipLink(path, "pair", caption=caption, task=episode.scene))
        recorded.append(Recorded(episode, shown.truth, shown.clips, summary["conditioning"]))
        if progress is not None:
            progress(i + 1, len(chosen))
    with atomic_path(run / RECORDING) as partial:
        write_recording(partial, recorded, name=str(summary["entrant"]))
    link = RecordingLink(RECORDING, "3D poses of the truth, every camera, and the predictions")
    found = physics_submission(summary, run, clips=links, recordings=[link])
    write_submission(run, found)
    return found


@dataclass(frozen=True)
class _Shown:
    """One episode in all its views.

    Attributes:
        truth, clips: uint8 [V, T, H, W, 3]; a clip is context and prediction together.
        masks, tracked: uint8 [V, T, H, W], true ones and those tracked in the clips (zeros without a tracker).
    """

    truth: NDArray[np.uint8]
    clips: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    tracked: NDArray[np.uint8]

    def grid(self) -> NDArray[np.uint8]:
        """uint8 [T, V * CELL, 4 * CELL, 3]: a row per view, columns as COLUMNS."""
        frames = []
        for t in range(self.truth.shape[1]):
            rows = []
            for view in range(len(self.truth)):
                true, made = self.truth[view, t], self.clips[view, t]
                apart = np.abs(true.astype(np.int16) - made) * 2
                pictures = (true, made, apart.clip(0, 255).astype(np.uint8), self._masked(view, t))
                rows.append(np.concatenate([_cell(p) for p in pictures], axis=1))
            frames.append(np.concatenate(rows))
        return np.stack(frames)

    def _masked(self, view: int, t: int) -> NDArray[np.uint8]:
        """The prediction in grey, tracked objects in colour over it, outlines of the true ones."""
        grey = cv2.cvtColor(self.clips[view, t], cv2.COLOR_RGB2GRAY)
        out = np.repeat(grey[..., None] // 2 + 40, 3, axis=2).astype(np.uint8)
        tracked, true = self.tracked[view, t], self.masks[view, t]
        colours = PALETTE[(tracked.astype(int) - 1) % len(PALETTE)]
        out[tracked > 0] = (0.4 * out[tracked > 0] + 0.6 * colours[tracked > 0]).astype(np.uint8)
        for number in np.unique(true[true > 0]):
            outlines, _ = cv2.findContours((true == number).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(out, outlines, -1, (255, 255, 255), max(1, out.shape[0] // CELL))
        return out


def _cell(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = picture.shape[:2]
    scale = CELL / max(height, width)
    size = max(2, round(width * scale)), max(2, round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    out = np.full((CELL, CELL, 3), 24, np.uint8)
    top, left = (CELL - size[1]) // 2, (CELL - size[0]) // 2
    out[top : top + size[1], left : left + size[0]] = small
    return out


def _predict(entrant: Entrant, tracker: Tracker, episode: PhysicsEpisode, summary: dict[str, Any]) -> _Shown:
    frames, given, views = summary["frames"], summary["conditioning"], range(summary["views"])
    truth = np.stack([episode.frames(view, frames) for view in views])
    query = Query(episode, tuple(views), truth[:, :given], frames - given, 0)
    clips = np.concatenate([truth[:, :given], entrant.predict(query)], axis=1)
    masks = np.stack([episode.masks(view, frames) for view in views])
    if tracker.track is None:
        return _Shown(truth, clips, masks, np.zeros_like(masks))
    tracked = np.stack([tracker.track(clip, mask[0]) for clip, mask in zip(clips, masks, strict=True)])
    return _Shown(truth, clips, masks, tracked)
