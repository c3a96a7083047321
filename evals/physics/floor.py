"""The tracker's floor: object IoU on ground-truth video, `wfm-sim physics floor`. No IoU of a model can mean more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from wfm_sim.data.physics import PhysicsData, open_physics
from wfm_sim.errors import UserError
from wfm_sim.evals.estimate import Estimate
from wfm_sim.evals.physics.metrics import mean_known, stratified_mean
from wfm_sim.evals.physics.trackers import Floors, load_tracker
from wfm_sim.evals.statistics import bootstrap_mean
from wfm_sim.workers import run_jobs

CONTEXTS = (1, 9)
Job = tuple[str, int]


def measure(
    data: str | Path | PhysicsData,
    *,
    tracker: str = "colour",
    frames: int = 33,
    episodes: int | None = None,
    workers: int = 1,
    device: str = "cpu",
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, Estimate]]:
    """Track every ground-truth video from its first mask.

    Args:
        data: A data set.
        tracker: colour or sam2.
        frames: Of each video.
        episodes: Of each scene; None takes all.
        workers: Processes; 1 works in this one.
        device: Where weights compute.
        cache: Keeps what was measured.
        progress: Called with (episodes done, episodes in all).

    Returns:
        Scene, and 'all' -> 'from 1' and 'from 9' (frames 1 and 9 to the last) -> mean IoU with its interval.

    Raises:
        UserError: no data set, videos that are too short, or a tracker that is not there.
    """
    data = data if isinstance(data, PhysicsData) else open_physics(data)
    found = load_tracker(tracker, device)
    if found.track is None:
        raise UserError(f"{found.name}: unscored, {found.reason}")
    jobs = [(e.scene, e.index) for scene in data.scenes for e in data.episodes(scene)[:episodes]]
    if not jobs:
        raise UserError(f"{data.root}: has no episodes")
    values: dict[str, dict[str, list[float]]] = {scene: {} for scene in data.scenes}
    for done, (scene, views) in enumerate(_run(data, tracker, frames, device, cache, jobs, workers)):
        for start in CONTEXTS:
            mean = mean_known([mean_known(view[start:]) for view in views])
            if mean is not None:
                values[scene].setdefault(f"from {start}", []).append(mean)
        if progress is not None:
            progress(done + 1, len(jobs))
    names = [f"from {start}" for start in CONTEXTS if start < frames]
    out = {scene: {n: bootstrap_mean(sorted(v.get(n, []))) for n in names} for scene, v in values.items()}
    out["all"] = {n: stratified_mean({s: sorted(v.get(n, [])) for s, v in values.items()}) for n in names}
    return out


def format_floor(floor: dict[str, dict[str, Estimate]], tracker: str) -> str:
    """As Markdown."""
    names = list(floor["all"])
    lines = [f"| IoU of the {tracker} on the truth | " + " | ".join(f"frames {n}" for n in names) + " |"]
    lines.append("|---|" + "---:|" * len(names))
    for scene, values in floor.items():
        lines.append(f"| {scene} | " + " | ".join(values[n].format(3) for n in names) + " |")
    return "\n".join(lines)


class _Worker:
    def __init__(self, data: PhysicsData, tracker: str, frames: int, device: str, cache: Path | None) -> None:
        self.data = data
        self.floors = Floors(data, load_tracker(tracker, device), frames, cache)

    def __call__(self, job: Job) -> tuple[str, list[list[float | None]]]:
        episode = self.data.episode(*job)
        return job[0], [self.floors(episode, view) for view in range(episode.views)]


def _make_worker(root: Path, *rest: Any) -> _Worker:
    import cv2

    cv2.setNumThreads(1)  # there is a worker per core already
    return _Worker(open_physics(root), *rest)


def _run(
    data: PhysicsData, tracker: str, frames: int, device: str, cache: Path | None, jobs: list[Job], workers: int
) -> Iterator[tuple[str, list[list[float | None]]]]:
    if workers <= 1:
        yield from map(_Worker(data, tracker, frames, device, cache), jobs)
    else:
        yield from run_jobs(partial(_make_worker, data.root, tracker, frames, device, cache), jobs, workers)
