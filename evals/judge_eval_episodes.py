"""The held-out episodes of the physics twin on which a judge's error is measured.

Their scenes begin at 23,000,000, where neither the training data nor any other evaluation has any. Every episode runs
its 32 steps to the end, as an imagined one does until the judge ends it: what a policy does after its success must not
fool the judge either. The policies are the scripted ones of the big comparison, from ones that never succeed to ones
that always do, in turn, each episode on a scene of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wfm_sim.assets.tabletop import TASKS
from wfm_sim.envs.worlds import MAX_EPISODE_STEPS
from wfm_sim.evals.contestants import STANDARD
from wfm_sim.evals.heldout import HeldOut, Plan, held_out
from wfm_sim.evals.twin_recorder import TwinRecorder, tabletop_plan

FIRST_SEED = 23_000_000  # 10 million: nano and trust; 20: policies; 21 and 22: actions; 30: behaviour cloning


@dataclass(frozen=True)
class JudgePlan(Plan):
    """A `heldout.Plan` with scenes of its own: episode i takes seed first_seed + i."""

    first_seed: int = FIRST_SEED

    def of(self, index: int) -> tuple[int, str, str]:
        """(seed, task, policy) of episode `index`."""
        task = self.tasks[index % len(self.tasks)]
        return self.first_seed + index, task, self.policies[index // len(self.tasks) % len(self.policies)]


# Cloned policies are left out: the shipped judge's error was measured before there were any.
SCRIPTED = tuple(name for name in STANDARD if not name.startswith("bc-"))


def judge_plan(size: int = 64, policies: tuple[str, ...] = SCRIPTED) -> JudgePlan:
    """Tasks in turn, and for each task the policies in turn; `size` is the frame's edge in pixels."""
    fingerprint = tabletop_plan(size=size).fingerprint
    return JudgePlan(tasks=TASKS, policies=policies, steps=MAX_EPISODE_STEPS, size=size, fingerprint=fingerprint)


def record(
    plan: JudgePlan, count: int, cache: Path | str, on_episode: Callable[[int], None] = lambda done: None
) -> Iterator[HeldOut]:
    """The first `count` episodes of the plan, from the cache where they are; `on_episode` is told how many there are.

    Raises:
        UserError: count below 1, or a cached file that cannot be read.
    """
    recorder = TwinRecorder(plan)
    try:
        for done, episode in enumerate(held_out(plan, count, cache, recorder), 1):
            on_episode(done)
            yield episode
    finally:
        recorder.close()
