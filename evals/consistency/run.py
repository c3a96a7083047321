"""Scoring many clips: `wfm-sim eval consistency PATH`.

The folder gets config.json, records.jsonl (one line per clip, written as it ends: the same command again goes on),
reconstructions/<clip>.npz (see sfm.Reconstruction), summary.json and table.md; with a floor, its own such folder in
floor/. A clip that cannot be read, or whose SfM dies, is one failed clip with its reason; nothing is left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from wfm_sim.data.files import atomic_path
from wfm_sim.errors import UserError
from wfm_sim.evals.consistency.clips import ClipSource, NamedClip, ReadOptions, open_clips
from wfm_sim.evals.consistency.score import ConsistencySettings, score_clip
from wfm_sim.evals.consistency.summary import format_markdown, summarise
from wfm_sim.evals.physics.records import records_in
from wfm_sim.evals.run_folder import write_pretty
from wfm_sim.evals.submission import slug
from wfm_sim.workers import leave_if_orphaned, run_jobs

FLOOR = "floor"
RECONSTRUCTIONS = "reconstructions"
RECORDINGS = "recordings"


def evaluate(
    clips: str | Path | ClipSource,
    out: str | Path,
    settings: ConsistencySettings | None = None,
    options: ReadOptions | None = None,
    *,
    floor: str | Path | ClipSource | None = None,
    name: str = "",
    workers: int = 1,
    recordings: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Score every clip that is not scored yet, and sum up.

    Args:
        clips: A path (see `open_clips`), or anything that hands out clips.
        out: The run's folder.
        settings: How to score.
        options: How files become clips; of no meaning for what is no path.
        floor: Ground truth through the same codec, scored the same way and shown beside.
        name: What is judged, for the table; else the path's or the source's own.
        workers: Processes; 1 works in this one.
        recordings: Write a .rrd of so many clips, the first ones.
        progress: Called with (clips scored, clips in all), the floor's too.

    Returns:
        The summary (see summary.py).

    Raises:
        UserError: nothing to score at a path, or a folder made with other settings.
    """
    settings, out = settings or ConsistencySettings(), Path(out).expanduser()
    source = _source(clips, options)
    below = None if floor is None else _source(floor, options)
    total = len(source.names) + (0 if below is None else len(below.names))
    done = 0

    def one(part: ClipSource, folder: Path) -> list[dict[str, Any]]:
        nonlocal done
        before = done
        said = None if progress is None else lambda n: progress(before + n, total)
        records = score_all(part, folder, settings, workers=workers, recordings=recordings, progress=said)
        done += len(records)
        return records

    # the floor first: its folder lies in the run's, which must not hold anything before its settings
    records = one(source, out)
    floors = None if below is None else one(below, out / FLOOR)
    summary = summarise(records, settings, name or _name(source), source.identity, floors)
    write_pretty(out / "summary.json", summary)
    with atomic_path(out / "table.md") as path:
        path.write_text(format_markdown(summary) + "\n", encoding="utf-8")
    return summary


def _source(clips: str | Path | ClipSource, options: ReadOptions | None) -> ClipSource:
    source: ClipSource = open_clips(clips, options) if isinstance(clips, str | Path) else clips
    names = list(source.names)
    if not names:
        raise UserError("there are no clips to score")
    if len(set(names)) < len(names):
        twice = next(n for n in names if names.count(n) > 1)
        raise UserError(f"two clips are called {twice!r}; their names must differ")
    return source


def _name(source: ClipSource) -> str:
    return Path(str(source.identity.get("source", "clips"))).name


def score_all(
    source: ClipSource,
    out: Path,
    settings: ConsistencySettings,
    *,
    workers: int = 1,
    recordings: int = 0,
    progress: Callable[[int], Any] | None = None,
) -> list[dict[str, Any]]:
    """The records of all clips of a source, in its order, scored where they are not yet in the folder `out`."""
    about = {**source.identity, "settings": asdict(settings)}
    with records_in(out, about) as book:
        there = {r["clip"] for r in book.records}
        missing = [i for i, name in enumerate(source.names) if name not in there]
        done = len(source.names) - len(missing)
        if progress is not None:
            progress(done)
        shown = set(source.names[:recordings])
        if workers > 1 and len(missing) > 1:
            portable = source if source.portable else None
            prepare = partial(_make_worker, portable, settings, out, shown)
            jobs: Sequence[int | NamedClip | dict[str, Any]] = missing if source.portable else _Loaded(source, missing)
            results: Iterator[dict[str, Any]] = run_jobs(prepare, jobs, workers)
        else:
            results = map(Scorer(source, settings, out, shown), missing)
        for record in results:
            book.add([record])
            done += 1
            if progress is not None:
                progress(done)
        by_name = {r["clip"]: r for r in book.records}
    return [by_name[name] for name in source.names]


class _Loaded(Sequence[Any]):
    """Clips of a source that only this process can load, one at a time, as a worker asks for the next."""

    def __init__(self, source: ClipSource, chosen: Sequence[int]) -> None:
        self.source, self.chosen = source, chosen

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, i: Any) -> Any:
        return _load(self.source, self.chosen[i])


def _load(source: ClipSource, index: int) -> NamedClip | dict[str, Any]:
    try:
        return source.load(index)
    except UserError as error:
        return failed(source.names[index], str(error))


class Scorer:
    """Scores one clip at a time: of its source by position, or handed over."""

    def __init__(self, source: ClipSource | None, settings: ConsistencySettings, out: Path, shown: set[str]) -> None:
        self.source, self.settings, self.out, self.shown = source, settings, out, shown

    def __call__(self, job: int | NamedClip | dict[str, Any]) -> dict[str, Any]:
        """The record of a clip; what failed in reading or scoring it is the record's reason."""
        if isinstance(job, int):
            assert self.source is not None
            job = _load(self.source, job)
        if isinstance(job, dict):
            return job
        try:
            return self._score(job)
        except UserError as error:
            return failed(job.name, str(error))
        except (ArithmeticError, LookupError, RuntimeError, ValueError) as error:
            return failed(job.name, f"scoring failed ({type(error).__name__}: {error})")

    def _score(self, clip: NamedClip) -> dict[str, Any]:
        score = score_clip(
            clip.frames, intrinsics=clip.intrinsics, commanded=clip.commanded, masks=clip.masks, settings=self.settings
        )
        leave_if_orphaned()
        if (scene := score.reconstruction) is not None:
            scene.save(self.out / RECONSTRUCTIONS / f"{file_name(clip.name)}.npz")
            if clip.name in self.shown:
                from wfm_sim.evals.consistency.recording import record_scene

                path = self.out / RECORDINGS / f"{file_name(clip.name)}.rrd"
                record_scene(path, clip.frames, scene, clip.commanded, score.gaussians, fps=clip.fps)
        status = "failed" if score.crashed else "scored" if score.applicable else "not applicable"
        # as it will be read back: tuples are lists
        record: dict[str, Any] = json.loads(json.dumps({"clip": clip.name, "status": status, **score.to_json()}))
        return record


def failed(name: str, reason: str) -> dict[str, Any]:
    """The record of a clip that could not be scored: it counts, and not as a success."""
    return {"clip": name, "status": "failed", "reason": reason, "counted": True, "applicable": False,
            "pose_success": False, "pose_success_loose": False, "score": 0.0, "coverage": 0.0}  # fmt: skip


def file_name(clip: str) -> str:
    """Of a clip's files; different for different clips."""
    name = slug(clip)
    return name if name == clip else f"{name}-{hashlib.sha256(clip.encode()).hexdigest()[:6]}"


def _make_worker(source: ClipSource | None, settings: ConsistencySettings, out: Path, shown: set[str]) -> Scorer:
    import cv2

    cv2.setNumThreads(1)  # there is a worker per core already
    return Scorer(source, settings, out, shown)
