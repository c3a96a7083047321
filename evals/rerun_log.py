"""Rerun recordings of rollouts.

Entities: /real/<camera>, /imagined/<camera>, /diff (absolute difference), /action, /state, /reward/real and
/reward/imagined, /episode (captions). Timelines: frame_index (over the whole recording), timestamp (seconds),
episode. View with `rerun FILE.rrd`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from wfm_sim.data.files import atomic_path
from wfm_sim.errors import UserError

ACTION_NAMES = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
STATE_NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper")


@dataclass(frozen=True)
class Clip:
    """One rollout beside the truth.

    Attributes:
        caption: What it shows, one line.
        real: uint8 [T, H, W, 3], or None where there is no truth.
        imagined: uint8 [S, H, W, 3]; S may differ from T (an episode that ended earlier in one of the worlds).
        actions: float32 [T - 1, 7]; actions[t] leads from frame t to t + 1.
        state: float32 [T, 7], the gripper pose, or None.
        real_reward, imagined_reward: float [T - 1] each, or None.
        fps: Frames per second.
    """

    caption: str
    real: NDArray[np.uint8] | None
    imagined: NDArray[np.uint8]
    actions: NDArray[np.float32]
    state: NDArray[np.float32] | None = None
    real_reward: NDArray[np.float64] | None = None
    imagined_reward: NDArray[np.float64] | None = None
    fps: float = 5.0


def write_recording(path: Path | str, clips: Sequence[Clip], *, name: str = "wfm-sim", camera: str = "front") -> Path:
    """Write clips one after another into one .rrd with its blueprint; the file appears whole or not at all.

    Raises:
        UserError: rerun-sdk is not installed, or there are no clips.
    """
    rr = rerun_module()
    if not clips:
        raise UserError("a recording needs at least one clip, got none.")
    path = Path(path)
    recording = rr.RecordingStream("wfm_sim", recording_id=f"{name}-{path.stem}")
    with atomic_path(path) as partial:
        recording.save(str(partial), default_blueprint=_blueprint(camera))
        recording.send_recording_name(name)
        _log_names(rr, recording)
        first = 0
        for index, clip in enumerate(clips):
            _log_clip(rr, recording, clip, index, first, camera)
            first += max(len(clip.imagined), 0 if clip.real is None else len(clip.real))
        recording.flush()
        recording.disconnect()
    return path


def rerun_module() -> ModuleType:
    """rerun, or a UserError that says how to install it."""
    try:
        import rerun
    except ImportError as error:
        raise UserError("recordings need rerun-sdk; install it with `pip install rerun-sdk`.") from error
    return rerun


def _blueprint(camera: str):  # type: ignore[no-untyped-def]
    import rerun.blueprint as rrb

    images = rrb.Horizontal(
        rrb.Spatial2DView(origin=f"real/{camera}", name="real"),
        rrb.Spatial2DView(origin=f"imagined/{camera}", name="imagined"),
        rrb.Spatial2DView(origin="diff", name="|real - imagined|"),
    )
    series = rrb.Horizontal(
        rrb.TimeSeriesView(origin="action", name="action"),
        rrb.TimeSeriesView(origin="reward", name="reward"),
        rrb.TimeSeriesView(origin="state", name="state"),
    )
    return rrb.Blueprint(
        rrb.Vertical(images, series, rrb.TextLogView(origin="episode", name="episodes"), row_shares=[4, 2, 1]),
        rrb.TimePanel(timeline="frame_index", state="collapsed"),
        collapse_panels=True,
    )


def _log_names(rr: ModuleType, recording) -> None:  # type: ignore[no-untyped-def]
    recording.log("action", rr.SeriesLines(names=list(ACTION_NAMES)), static=True)
    recording.log("state", rr.SeriesLines(names=list(STATE_NAMES)), static=True)
    recording.log("reward/real", rr.SeriesLines(names=["real"]), static=True)
    recording.log("reward/imagined", rr.SeriesLines(names=["imagined"]), static=True)


def _log_clip(rr: ModuleType, recording, clip: Clip, index: int, first: int, camera: str) -> None:  # type: ignore[no-untyped-def]
    real = () if clip.real is None else clip.real
    for t in range(max(len(clip.imagined), len(real))):
        recording.set_time("frame_index", sequence=first + t)
        recording.set_time("timestamp", duration=(first + t) / clip.fps)
        recording.set_time("episode", sequence=index)
        if t == 0:
            recording.log("episode", rr.TextLog(clip.caption))
        if t < len(real):
            recording.log(f"real/{camera}", rr.Image(real[t]).compress(jpeg_quality=95))
        if t < len(clip.imagined):
            recording.log(f"imagined/{camera}", rr.Image(clip.imagined[t]).compress(jpeg_quality=95))
        if t < min(len(real), len(clip.imagined)):
            difference = np.abs(real[t].astype(np.int16) - clip.imagined[t].astype(np.int16)).astype(np.uint8)
            recording.log("diff", rr.Image(difference).compress(jpeg_quality=95))
        if t < len(clip.actions):
            recording.log("action", rr.Scalars(clip.actions[t].astype(np.float64)))
        if clip.state is not None and t < len(clip.state):
            recording.log("state", rr.Scalars(clip.state[t].astype(np.float64)))
        # a reward belongs to the frame it was given with, the one after its action
        for kind, rewards in (("real", clip.real_reward), ("imagined", clip.imagined_reward)):
            if rewards is not None and 0 < t <= len(rewards):
                recording.log(f"reward/{kind}", rr.Scalars(float(rewards[t - 1])))
