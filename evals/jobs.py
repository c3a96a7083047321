"""What an evaluation of policies is made of: jobs (policy, task, seed) and how each ended in a world."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.errors import UserError
from wfm_sim.evals.policy_loading import make_policy

# Never used for training: see heldout.FIRST_SEED.
FIRST_SEED = 20_000_000
SEEDS_PER_SET = 10_000  # `plan(seed=1)` begins where `plan(seed=0)` may end
MODEL, TWIN = "model", "twin"


@dataclass(frozen=True)
class Job:
    """One episode to run in both worlds."""

    policy: str
    task: str
    seed: int


@dataclass(frozen=True)
class Trace:
    """What happened, for pictures: frames uint8 [n+1, H, W, 3], actions [n, 7], rewards [n], poses [n+1, 7]."""

    frames: NDArray[np.uint8]
    actions: NDArray[np.float32]
    rewards: NDArray[np.float64]
    poses: NDArray[np.float32]
    instruction: str


@dataclass(frozen=True)
class Outcome:
    """How one episode ended in one world.

    Attributes:
        world: MODEL or TWIN.
        job: What was run.
        success, steps, reward: Its end, its length, its sum of rewards.
        probability: Of success at the last frame, in the judge's eyes; None in the twin, or without a judge.
        trust: Of each step, in [0, 1], as `info["trust"]` said it; None where nothing is said.
        trace: Frames and the rest, where they were kept.
    """

    world: str
    job: Job
    success: bool
    steps: int
    reward: float
    probability: float | None = None
    trust: tuple[float, ...] | None = None
    trace: Trace | None = None

    def to_json(self) -> dict[str, Any]:
        """One line of a records file."""
        return {
            "world": self.world,
            **vars(self.job),
            "success": self.success,
            "steps": self.steps,
            "reward": round(self.reward, 6),
            "probability": None if self.probability is None else round(self.probability, 6),
            "trust": None if self.trust is None else [round(t, 4) for t in self.trust],
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Outcome:
        """The outcome of such a line. Raises KeyError, TypeError or ValueError for anything else."""
        job = Job(str(record["policy"]), str(record["task"]), int(record["seed"]))
        trust, probability, world = record["trust"], record["probability"], record["world"]
        if world not in (MODEL, TWIN):
            raise ValueError(f"unknown world {world!r}")
        return cls(
            world=world,
            job=job,
            success=bool(record["success"]),
            steps=int(record["steps"]),
            reward=float(record["reward"]),
            probability=None if probability is None else float(probability),
            trust=None if trust is None else tuple(float(t) for t in trust),
        )


@dataclass
class Speed:
    """Frames imagined and the seconds that took, resets and policies left out."""

    frames: int = 0
    seconds: float = 0.0
    num_envs: int = 0

    @property
    def fps(self) -> float:
        return self.frames / self.seconds if self.seconds else 0.0


OnOutcome = Callable[[Outcome], None]


def plan(policies: Sequence[str], tasks: Sequence[str], episodes: int, *, seed: int = 0) -> list[Job]:
    """Every policy on every task with the same `episodes` scenes; another `seed` takes other scenes.

    Raises:
        UserError: unknown policy, fewer than one episode, or more than a seed has scenes for.
    """
    if episodes < 1:
        raise UserError(f"the number of episodes must be at least 1, not {episodes}.")
    if episodes > SEEDS_PER_SET:
        raise UserError(f"a seed has {SEEDS_PER_SET} scenes; {episodes} episodes are too many.")
    if seed < 0:
        raise UserError(f"the seed must not be negative, but is {seed}.")
    for kind, names in (("policy", policies), ("task", tasks)):
        for i, name in enumerate(names):
            if name in names[:i]:
                raise UserError(f"the {kind} {name!r} is named twice.")
    for name in policies:
        make_policy(name)
    first = FIRST_SEED + SEEDS_PER_SET * seed
    return [Job(policy, task, first + i) for policy in policies for task in tasks for i in range(episodes)]
