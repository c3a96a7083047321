"""Scoring an entrant on a data set: `wfm-sim physics score`.

The folder gets config.json, records.jsonl (one line per scored video, written as it ends: the same command again goes
on), summary.json and table.md, and with `videos` the predicted clips, in the layout that `score FOLDER` reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wfm_sim.data.files import atomic_path
from wfm_sim.data.physics import PhysicsData, PhysicsEpisode, episode_folder, open_physics
from wfm_sim.data.physics_writer import CRF
from wfm_sim.data.video import write_video
from wfm_sim.errors import UserError
from wfm_sim.evals.physics.dreamsim import Similarity, load_dreamsim
from wfm_sim.evals.physics.entrants import Entrant, Query, load_entrant
from wfm_sim.evals.physics.metrics import frame_iou, mean_known
from wfm_sim.evals.physics.records import records_in
from wfm_sim.evals.physics.summary import format_run, summarise
from wfm_sim.evals.physics.trackers import Floors, Tracker, load_tracker
from wfm_sim.evals.run_folder import write_pretty
from wfm_sim.video_metrics import psnr, ssim
from wfm_sim.workers import leave_if_orphaned, run_jobs

Job = tuple[str, int, int]  # scene, episode number, seed


@dataclass(frozen=True)
class ScoreSettings:
    """How to score; all but the last two decide the records and are compared when a run is resumed.

    Attributes:
        context: Frames that are given.
        frames: Of a clip, the given ones included; the others are predicted and scored.
        tracker: colour or sam2.
        dreamsim: Score DreamSim too, where its package and weights are there.
        seeds: Predictions per video (1 for what is deterministic).
        videos: Keep the predicted clips.
    """

    context: int = 9
    frames: int = 33
    tracker: str = "colour"
    dreamsim: bool = True
    seeds: int = 4
    videos: bool = False


@dataclass(frozen=True)
class Selection:
    """What is scored of a data set; None takes all there is."""

    scenes: tuple[str, ...] | None = None
    episodes: int | None = None
    views: int | None = None


def score(
    entrant: str | Entrant,
    data: str | Path | PhysicsData,
    out: str | Path,
    settings: ScoreSettings | None = None,
    selection: Selection | None = None,
    *,
    workers: int = 1,
    device: str = "cpu",
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score what is not scored yet, and sum up.

    Args:
        entrant: A name (see entrants.py), or an Entrant, which is run in this process.
        data: A complete data set.
        out: The run's folder.
        settings, selection: How, and of what.
        workers: Processes; 1 works in this one.
        device: Where models and weights compute.
        cache: Keeps the tracker's floor for the next run.
        progress: Called with (videos scored, videos in all).

    Returns:
        The summary (see summary.py).

    Raises:
        UserError: no such entrant or data, numbers out of range, a folder made with other settings, or an entrant that
            failed.
    """
    settings, selection = settings or ScoreSettings(), selection or Selection()
    data = data if isinstance(data, PhysicsData) else open_physics(data)
    episodes = choose(data, settings, selection)
    views = range(min(selection.views or 4, episodes[0].views))
    chosen = load_entrant(entrant, data, device) if isinstance(entrant, str) else entrant
    scorer = Scorer(data, chosen, settings, len(views), Path(out).expanduser(), device, cache)
    seeds = 1 if chosen.deterministic else settings.seeds
    decisive = {k: v for k, v in asdict(settings).items() if k not in ("seeds", "videos")}
    about = {"entrant": chosen.name, "identity": chosen.identity, "data": data.hash, **decisive}
    about |= {"tracker": scorer.tracker.name, "tracker_version": scorer.tracker.version}
    about["dreamsim"] = scorer.dreamsim_reason or "scored"
    with records_in(scorer.out, about) as book:
        there = {(r["scene"], r["episode"], r["seed"], r["view"]) for r in book.records}
        jobs: list[Job] = [(e.scene, e.index, seed) for seed in range(seeds) for e in episodes]
        missing = [job for job in jobs if any((*job, view) not in there for view in views)]
        done, total = (len(jobs) - len(missing)) * len(views), len(jobs) * len(views)
        if progress is not None:
            progress(done, total)
        for records in _run(scorer, entrant, missing, workers):
            book.add([r for r in records if (r["scene"], r["episode"], r["seed"], r["view"]) not in there])
            done += len(views)
            if progress is not None:
                progress(done, total)
        wanted = set(jobs)
        records = [r for r in book.records
                   if (r["scene"], r["episode"], r["seed"]) in wanted and r["view"] < len(views)]  # fmt: skip
    summary = summarise(records, data, chosen.name, settings, scorer.tracker, scorer.dreamsim_reason, seeds)
    write_pretty(scorer.out / "summary.json", summary)
    with atomic_path(scorer.out / "table.md") as path:
        path.write_text(format_run(summary) + "\n", encoding="utf-8")
    return summary


def choose(data: PhysicsData, settings: ScoreSettings, selection: Selection) -> list[PhysicsEpisode]:
    """The episodes to score, all scenes growing together. UserError for numbers or names that do not fit the data."""
    if not data.complete:
        raise UserError(f"{data.root}: is not complete; run the same `wfm-sim physics generate` again")
    if settings.context < 1 or settings.frames <= settings.context:
        raise UserError(
            f"context {settings.context} of {settings.frames} frames: at least one must be given and one be predicted"
        )
    if settings.seeds < 1:
        raise UserError(f"seeds must be at least 1, not {settings.seeds}")
    for name, value in (("episodes", selection.episodes), ("views", selection.views)):
        if value is not None and value < 1:
            raise UserError(f"{name} must be at least 1, not {value}")
    groups = [data.episodes(scene)[: selection.episodes] for scene in selection.scenes or data.scenes]
    first = groups[0][0]
    if len(first) < settings.frames:
        raise UserError(f"{data.root}: its videos have {len(first)} frames, {settings.frames} are asked for")
    if selection.views is not None and selection.views > first.views:
        raise UserError(f"{data.root}: has {first.views} views, not {selection.views}")
    longest = max(map(len, groups))
    return [group[i] for i in range(longest) for group in groups if i < len(group)]


class Scorer:
    """Scores one episode and seed at a time; see `score` for the arguments."""

    def __init__(
        self,
        data: PhysicsData,
        entrant: Entrant,
        settings: ScoreSettings,
        views: int,
        out: Path,
        device: str,
        cache: Path | None,
    ) -> None:
        self.data, self.entrant, self.settings, self.out = data, entrant, settings, out
        self.views, self.device, self.cache = tuple(range(views)), device, cache
        self.tracker: Tracker = load_tracker(settings.tracker, device)
        self.floors = Floors(data, self.tracker, settings.frames, cache)
        found: Similarity | str = load_dreamsim(device) if settings.dreamsim else "not asked for"
        self.similarity = None if isinstance(found, str) else found
        self.dreamsim_reason = found if isinstance(found, str) else ""

    def __call__(self, job: Job) -> list[dict[str, Any]]:
        """One record per view."""
        scene, index, seed = job
        given, frames = self.settings.context, self.settings.frames
        episode = self.data.episode(scene, index)
        truth = np.stack([episode.frames(view, frames) for view in self.views])  # [V, T, H, W, 3]
        query = Query(episode, self.views, truth[:, :given], frames - given, seed)
        future = self.entrant.predict(query)
        if future.shape != truth[:, given:].shape or future.dtype != np.uint8:
            raise UserError(f"{self.entrant.name} gave {future.dtype} {list(future.shape)} for {scene} {index}")
        clips = np.concatenate([truth[:, :given], future], axis=1)
        leave_if_orphaned()
        if self.settings.videos:
            self._keep(episode, seed, clips)
        return [self._one(episode, view, seed, truth[i], clips[i]) for i, view in enumerate(self.views)]

    def _one(self, episode: PhysicsEpisode, view: int, seed: int, truth: Any, clip: Any) -> dict[str, Any]:
        given = self.settings.context
        a, b = truth[given:], clip[given:]
        record: dict[str, Any] = {"scene": episode.scene, "episode": episode.index, "view": view, "seed": seed}
        values: dict[str, Sequence[float | None] | None] = {"psnr": psnr(a, b).tolist(), "ssim": ssim(a, b).tolist()}
        values["dreamsim"] = None if self.similarity is None else self.similarity(a, b).tolist()
        values["iou"] = values["floor"] = None
        if self.tracker.track is not None:
            masks = episode.masks(view, len(clip))
            values["iou"] = frame_iou(masks, self.tracker.track(clip, masks[0]), len(episode.names))[given:]
            values["floor"] = self.floors(episode, view)[given:]
        for name, series in values.items():
            record[name] = None if series is None else mean_known(series)
        for name in ("psnr", "ssim", "dreamsim", "iou"):
            series = values[name]
            record[f"{name}_by_frame"] = None if series is None else [v if v is None else round(v, 4) for v in series]
        return record

    def _keep(self, episode: PhysicsEpisode, seed: int, clips: Any) -> None:
        folder = self.out / "videos" / episode_folder(episode.scene, episode.index)
        folder.mkdir(parents=True, exist_ok=True)
        for view, clip in zip(self.views, clips, strict=True):
            name = f"view{view}.mp4" if self.entrant.deterministic else f"view{view}_seed{seed}.mp4"
            write_video(folder / name, clip, episode.fps, CRF, full_colour=True)


def _run(scorer: Scorer, entrant: str | Entrant, jobs: list[Job], workers: int) -> Iterator[list[dict[str, Any]]]:
    if workers <= 1 or not isinstance(entrant, str):
        yield from map(scorer, jobs)
        return
    make = partial(_make_worker, entrant, scorer.data.root, scorer.settings, len(scorer.views), scorer.out,
                   scorer.device, scorer.cache)  # fmt: skip
    yield from run_jobs(make, jobs, workers)


def _make_worker(
    entrant: str, root: Path, settings: ScoreSettings, views: int, out: Path, device: str, cache: Path | None
) -> Scorer:
    import cv2

    cv2.setNumThreads(1)  # there is a worker per core already
    data = open_physics(root)
    return Scorer(data, load_entrant(entrant, data, device), settings, views, out, device, cache)
