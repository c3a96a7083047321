"""Clips of an evaluation run: which episodes to show, chosen from the records, and run once more to get their frames.

That an episode gives the same bits every time makes this possible, and running it again is a test of it: `write_clips`
says of every clip whether it ended as recorded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from wfm_sim.data.files import atomic_path
from wfm_sim.evals.clips import mp4_bytes, side_by_side
from wfm_sim.evals.jobs import MODEL, TWIN, Job, OnOutcome, Outcome
from wfm_sim.evals.rerun_log import Clip, write_recording
from wfm_sim.evals.submission import slug

FOLDER, INDEX, RECORDING = "clips", "clips.json", "run.rrd"

Rerun = Callable[[Mapping[str, Sequence[Job]], OnOutcome], object]


@dataclass(frozen=True)
class ClipEntry:
    """One clip of a run folder: truth on the left, imagined on the right; imagined alone in a run without the twin.

    Attributes:
        path: Of the .mp4, relative to the run folder.
        policy, task, seed, instruction: The episode.
        model: Success and steps as imagined.
        twin: The same in physics, or None.
        as_recorded: Whether the second run of the episode ended as the first.
    """

    path: str
    policy: str
    task: str
    seed: int
    instruction: str
    model: tuple[bool, int]
    twin: tuple[bool, int] | None
    as_recorded: bool

    @property
    def job(self) -> Job:
        return Job(self.policy, self.task, self.seed)


def choose(outcomes: Sequence[Outcome], jobs: Sequence[Job], per_policy: int) -> list[Job]:
    """Up to `per_policy` jobs of each policy: in turn a disagreement of the two worlds, a success, a failure.

    Tasks that a policy does not show yet go first. Depends on what is recorded, not on the order of it.
    """
    ended = {(o.world, o.job): o.success for o in outcomes}
    chosen: list[Job] = []
    for policy in dict.fromkeys(job.policy for job in jobs):
        mine = [job for job in jobs if job.policy == policy and (MODEL, job) in ended]
        disagree = [j for j in mine if ended.get((TWIN, j), ended[MODEL, j]) != ended[MODEL, j]]
        alike = [j for j in mine if j not in disagree]
        wishes = [disagree, [j for j in alike if ended[MODEL, j]], [j for j in alike if not ended[MODEL, j]]]
        picked: list[Job] = []
        while len(picked) < min(per_policy, len(mine)):
            for wish in wishes:
                left = [j for j in wish if j not in picked]
                shown = {j.task for j in picked}
                picked += [*(j for j in left if j.task not in shown), *left][:1]
        chosen += picked[:per_policy]
    return chosen


def write_clips(
    folder: Path, jobs: Sequence[Job], recorded: Sequence[Outcome], rerun: Rerun, fps: float
) -> list[ClipEntry]:
    """Write clips/*.mp4, clips/clips.json and run.rrd of `jobs`, in order, unless they are there.

    Args:
        folder: The run folder.
        jobs: From `choose`.
        recorded: Outcomes of the run.
        rerun: Runs jobs again, world -> jobs, with traces.
        fps: Frames per second of the clips.
    """
    if not jobs:
        return []
    there = read_index(folder)
    files = [folder / RECORDING, *(folder / entry.path for entry in there)]
    if [entry.job for entry in there] == list(jobs) and all(file.is_file() for file in files):
        return there
    first = {(o.world, o.job): o for o in recorded}
    again: dict[tuple[str, Job], Outcome] = {}

    def keep(outcome: Outcome) -> None:
        again[outcome.world, outcome.job] = outcome

    rerun({world: [j for j in jobs if (world, j) in first] for world in (TWIN, MODEL)}, keep)
    entries, clips = [], []
    for number, job in enumerate(jobs, 1):
        model, twin = again[MODEL, job], again.get((TWIN, job))
        same = all(o.to_json() == first[o.world, job].to_json() for o in (model, twin) if o is not None)
        clip = _clip(job, model, twin, fps)
        path = f"{FOLDER}/{slug(f'{number:03d}-{job.policy}-{job.task}-{job.seed}')}.mp4"
        frames = clip.imagined if clip.real is None else side_by_side(clip.real, clip.imagined)
        with atomic_path(folder / path) as partial:
            partial.write_bytes(mp4_bytes(frames, fps))
        assert model.trace is not None
        ends = [(o.success, o.steps) if o is not None else None for o in (model, twin)]
        assert ends[0] is not None
        entries.append(ClipEntry(path, job.policy, job.task, job.seed, model.trace.instruction, ends[0], ends[1], same))
        clips.append(clip)
    for path_there in (folder / FOLDER).glob("*.mp4"):
        if f"{FOLDER}/{path_there.name}" not in {e.path for e in entries}:  # of an earlier choice
            path_there.unlink()
    write_recording(folder / RECORDING, clips, name=folder.name or "policy-run")
    with atomic_path(folder / FOLDER / INDEX) as partial:
        partial.write_text(json.dumps([asdict(e) for e in entries], indent=1) + "\n", encoding="utf-8")
    return entries


def read_index(folder: Path) -> list[ClipEntry]:
    """What clips/clips.json lists; [] where it is absent or of another version."""
    try:
        content = json.loads((folder / FOLDER / INDEX).read_text(encoding="utf-8"))
        return [
            ClipEntry(**{**c, "model": tuple(c["model"]), "twin": None if c["twin"] is None else tuple(c["twin"])})
            for c in content
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _clip(job: Job, model: Outcome, twin: Outcome | None, fps: float) -> Clip:
    assert model.trace is not None
    truth = None if twin is None else twin.trace
    longest = max((t for t in (truth, model.trace) if t is not None), key=lambda trace: len(trace.actions))
    return Clip(
        caption=f"{model.trace.instruction}: {job.policy}, scene {job.seed}",
        real=None if truth is None else truth.frames,
        imagined=model.trace.frames,
        actions=longest.actions,
        state=longest.poses,
        real_reward=None if truth is None else truth.rewards,
        imagined_reward=model.trace.rewards,
        fps=fps,
    )
