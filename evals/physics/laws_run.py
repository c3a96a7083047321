"""Which laws a scored model breaks: `wfm-sim physics laws RUN --data DIR`, where RUN was made by `score --videos`.

RUN/laws/ gets config.json, records.jsonl (one line per judged video: every measurement and verdict, written as it ends;
the same command again goes on), summary.json and table.md. The same tracker goes through the true videos, and through
those of another engine where its data set is given: what they break is the floor beside every share.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.assets.physics import scene_from_dict
from wfm_sim.data.files import atomic_path, field, read_json
from wfm_sim.data.physics import PhysicsData, PhysicsEpisode, episode_folder, open_physics
from wfm_sim.data.video import read_video
from wfm_sim.errors import UserError
from wfm_sim.evals.physics.laws import Clip, Measurement, measure
from wfm_sim.evals.physics.laws_calibration import (
    SHIPPED,
    Thresholds,
    Verdict,
    calibrate,
    load_thresholds,
    save_thresholds,
    verdicts,
)
from wfm_sim.evals.physics.laws_summary import format_laws, summarise
from wfm_sim.evals.physics.predictors import resize
from wfm_sim.evals.physics.records import records_in
from wfm_sim.evals.physics.trackers import load_tracker
from wfm_sim.evals.run_folder import CONFIG, write_pretty
from wfm_sim.workers import leave_if_orphaned, run_jobs

MODEL, TRUTH, RERUN = "model", "truth", "rerun"
Progress = Callable[[int, int], None]
_VIDEO = re.compile(r"view(\d+)(?:_seed(\d+))?")


@dataclass(frozen=True)
class Job:
    """One video to judge. `seed` is None where the model has none; for the truth and the rerun it is None too."""

    source: str
    scene: str
    episode: int
    view: int
    seed: int | None

    @property
    def key(self) -> tuple[str, str, int, int, int | None]:
        """What a record is known by."""
        return self.source, self.scene, self.episode, self.view, self.seed


@dataclass(frozen=True)
class Judge:
    """How videos are judged; a call takes one job.

    Attributes:
        run: The folder of `wfm-sim physics score`.
        data, rerun: Roots of the data sets.
        context, frames: As the run was scored.
        pixels: Shorter side of the frames that the model makes; the true videos are seen through as many. 0: as stored.
        tracker: Its name.
    """

    run: Path
    data: Path
    rerun: Path | None
    context: int
    frames: int
    pixels: int
    tracker: str
    thresholds: Thresholds
    device: str = "cpu"

    def __call__(self, job: Job) -> dict[str, Any]:
        episode = open_physics(self.data).episode(job.scene, job.episode)
        clip, frames = true_clip(episode, job.view, self.context, self.frames), self._video(job, episode)
        tracker = load_tracker(self.tracker, self.device)
        if tracker.track is None:
            raise UserError(f"{tracker.name}: {tracker.reason}")
        measured = measure(clip, tracker.track(frames, clip.masks[0]))
        leave_if_orphaned()
        pixels = min(self.pixels or min(episode.size), *episode.size)
        found = verdicts(measured, self.thresholds, job.scene, pixels, self.context)
        return record(job, measured, found)

    def _video(self, job: Job, episode: PhysicsEpisode) -> NDArray[np.uint8]:
        """The whole clip, uint8 [T, H, W, 3]."""
        if job.source == TRUTH:
            return seen_through(episode.frames(job.view, self.frames), self.pixels)
        if job.source == RERUN:
            other = open_physics(self.rerun or "").episode(job.scene, job.episode)
            if other.seed != episode.seed or other.size != episode.size or other.fps != episode.fps:
                raise UserError(
                    f"{other.path}: its seed, size or rate is not that of {episode.path}; generate it with the same "
                    "settings but another --backend"
                )
            return seen_through(other.frames(job.view, self.frames), self.pixels)
        path = self.run / "videos" / episode_folder(job.scene, job.episode) / _video_name(job)
        frames = read_video(path)
        if frames.shape != (self.frames, *episode.size, 3):
            raise UserError(
                f"{path}: {len(frames)} frames of {frames.shape[2]}x{frames.shape[1]}, expected {self.frames} of "
                f"{episode.size[1]}x{episode.size[0]}"
            )
        return frames


def true_clip(episode: PhysicsEpisode, view: int, context: int, frames: int) -> Clip:
    """The truth of one video of a data set."""
    camera = episode.camera(view)
    scene = scene_from_dict(field(episode.about, "scene", episode.path))
    return Clip(scene, camera.intrinsics, camera.world_to_camera, episode.poses(), episode.masks(view, frames), context)


def seen_through(frames: NDArray[np.uint8], pixels: int) -> NDArray[np.uint8]:
    """uint8 [T, H, W, 3] made smaller, to `pixels` on the shorter side, and large again; 0 changes nothing."""
    height, width = frames.shape[1:3]
    if not 0 < pixels < min(height, width):
        return frames
    scale = pixels / min(height, width)
    return resize(resize(frames[None], (round(height * scale), round(width * scale))), (height, width))[0]


def record(job: Job, measured: Sequence[Measurement], found: Sequence[Verdict]) -> dict[str, Any]:
    """A JSON line."""
    laws = [
        {
            "law": v.law,
            "broken": v.broken,
            "tolerance": v.tolerance.limit,
            "clips": v.tolerance.clips,
            "worst": v.worst.to_json() if v.worst else None,
            "unscored": v.unscored,
        }
        for v in found
    ]
    about = {"source": job.source, "scene": job.scene, "episode": job.episode, "view": job.view, "seed": job.seed}
    return {**about, "laws": laws, "measurements": [m.to_json() for m in measured]}


def judge_run(
    run: Path,
    data: Path,
    *,
    rerun: Path | None = None,
    pixels: int = 0,
    thresholds: Path = SHIPPED,
    workers: int = 1,
    device: str = "cpu",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Judge every video of a run, the true ones and the rerun's, and sum up.

    Args:
        run: A folder of `wfm-sim physics score --videos`.
        data: The data set that it was scored on.
        rerun: The same episodes by another engine.
        pixels: See Judge.
        thresholds: See laws_calibration.
        workers: Processes; 1 works in this one.
        device: Where the tracker's weights compute, if it has any.
        progress: Called with (videos judged, videos in all).

    Returns:
        The summary (see laws_summary.py).

    Raises:
        UserError: not such a folder, without videos, of other data, or data that do not fit each other.
    """
    run, opened = run.expanduser(), open_physics(data)
    settings = field(read_json(run / CONFIG), "settings", run / CONFIG)
    context, frames = (int(field(settings, name, run / CONFIG)) for name in ("context", "frames"))
    if settings.get("data") != opened.hash:
        raise UserError(f"{run}: was scored on the data {settings.get('data')}, but {data} is {opened.hash}")
    if rerun is not None and rerun.expanduser().resolve() == opened.root.resolve():
        raise UserError(f"{rerun}: is the data set itself; --rerun takes the same episodes by another engine")
    if pixels < 0:
        raise UserError(f"pixels must not be negative, not {pixels}")
    jobs = _jobs(run, opened, rerun)
    tracker = "sam2" if str(field(settings, "tracker", run / CONFIG)).startswith("SAM") else "colour"
    known = load_thresholds(thresholds)
    judge = Judge(run, opened.root, rerun, context, frames, pixels, tracker, known, device)
    about = {"run": settings, "rerun": open_physics(rerun).hash if rerun else None, "pixels": pixels}
    about |= {"tracker_version": load_tracker(tracker, device).version, "thresholds": known.to_json()}
    out = run / "laws"
    with records_in(out, about) as book:
        there = {(r["source"], r["scene"], r["episode"], r["view"], r["seed"]) for r in book.records}
        missing = [job for job in jobs if job.key not in there]
        if progress is not None:
            progress(len(jobs) - len(missing), len(jobs))
        for done, judged in enumerate(_run(judge, missing, workers), len(jobs) - len(missing) + 1):
            book.add([judged])
            if progress is not None:
                progress(done, len(jobs))
        wanted = {job.key for job in jobs}
        records = [r for r in book.records
                   if (r["source"], r["scene"], r["episode"], r["view"], r["seed"]) in wanted]  # fmt: skip
    brief = {name: settings[name] for name in ("entrant", "context", "frames", "tracker")}
    summary = summarise(records, {**brief, "pixels": pixels, "thresholds": known.about})
    write_pretty(out / "summary.json", summary)
    with atomic_path(out / "table.md") as path:
        path.write_text(format_laws(summary) + "\n", encoding="utf-8")
    return summary


def _video_name(job: Job) -> str:
    return f"view{job.view}.mp4" if job.seed is None else f"view{job.view}_seed{job.seed}.mp4"


def _jobs(run: Path, data: PhysicsData, rerun: Path | None) -> list[Job]:
    """The run's videos and, of the same episodes and views, the truth's and the rerun's."""
    jobs = []
    for path in sorted((run / "videos").glob("*/[0-9]*/view*.mp4")):
        name = _VIDEO.fullmatch(path.stem)
        if name is None:
            raise UserError(f"{path}: expected names such as view0.mp4 or view0_seed0.mp4")
        scene, episode = path.parent.parent.name, int(path.parent.name)
        data.episode(scene, episode)  # UserError when it is not there
        jobs.append(Job(MODEL, scene, episode, int(name[1]), None if name[2] is None else int(name[2])))
    if not jobs:
        raise UserError(f"{run}: keeps no videos; score into a new folder with `wfm-sim physics score ... --videos`")
    places = list(dict.fromkeys((j.scene, j.episode, j.view) for j in jobs))
    others = [TRUTH] if rerun is None else [TRUTH, RERUN]
    return [*jobs, *(Job(source, *place, None) for source in others for place in places)]


def _run(judge: Judge, jobs: list[Job], workers: int) -> Iterator[dict[str, Any]]:
    if workers <= 1:
        yield from map(judge, jobs)
    else:
        yield from run_jobs(partial(_make_worker, judge), jobs, workers)


def _make_worker(judge: Judge) -> Judge:
    import cv2

    cv2.setNumThreads(1)  # there is a worker per core already
    return judge


def calibrate_on(
    data: Path, out: Path, *, sizes: Sequence[int], contexts: Sequence[int], frames: int, progress: Progress
) -> Thresholds:
    """Thresholds from the true videos of a data set, one view of each episode, and write them to `out`.

    Raises:
        UserError: no data set, or videos that are too short.
    """
    opened, tracker = open_physics(data), load_tracker("colour")
    episodes = [episode for scene in opened.scenes for episode in opened.episodes(scene)]

    def clips() -> Iterator[tuple[int, int, str, list[Measurement]]]:
        for done, episode in enumerate(episodes, 1):
            view = episode.index % episode.views
            video, masks = episode.frames(view, frames), episode.masks(view, frames)
            for size in sizes:
                assert tracker.track is not None  # it needs no weights
                found = tracker.track(seen_through(video, size), masks[0])
                for context in contexts:
                    clip = true_clip(episode, view, context, frames)
                    yield size, context, episode.scene, measure(clip, found)
            progress(done, len(episodes))

    about = {"tracker": tracker.name, "tracker_version": tracker.version, "data": opened.hash, "frames": frames}
    thresholds = calibrate(clips(), {**about, "engine": opened.manifest.get("engine"), "settings": opened.settings})
    save_thresholds(out, thresholds)
    return thresholds
