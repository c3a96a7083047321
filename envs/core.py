"""Imagined episodes: B rollouts of one world model that advance together, as plain functions on an immutable value.

    episodes = begin(world, [start_0, start_1])             # B = 2
    episodes, steps = advance(world, episodes, actions)     # float32 [B, n, A]: n frames each
    select(episodes, [1]); merge([...])                     # fork, restore, regroup

`advance` changes nothing that it was given, so keeping an `Episodes` *is* a snapshot. The single and the vector
environments (envs/single.py, envs/vector.py) are thin shells around these functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wfm_sim.actions import UNITS, Workspace, apply_action, executed_action
from wfm_sim.world_model import WorldModel


class Judges(Protocol):
    """Whatever reads success and progress off frames; `wfm_sim.judge.Judge` is the trained one."""

    def __call__(
        self,
        frames: NDArray[np.uint8],
        first_frames: NDArray[np.uint8],
        tasks: Sequence[str],
        colours: Sequence[str],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """uint8 [B, H, W, 3] and the first frames of the same episodes -> success probability and progress in [0, 1],
        each float64 [B]."""


class Trusts(Protocol):
    """Whatever says how far imagined frames are to be believed; `wfm_sim.trust.Trust` is the trained one. Its states
    are regrouped like a world model's, and hold trust, horizon and lowest, float64 [B] in [0, 1].

    Doubts, float64 [B, 2] in metres, are the world model's own (`wfm_sim.trust.Trust.step`). They are passed only where
    its state has them: a trust that does not take them goes with every other model."""

    def start(
        self, frames: NDArray[np.uint8], poses: NDArray[np.float64], doubts: NDArray[np.float64] | None = None
    ) -> Any:
        """Of B episodes at their given frames, uint8 [B, H, W, 3], and poses [B, 7]."""

    def step(
        self,
        state: Any,
        frames: NDArray[np.uint8],
        actions: NDArray[np.float32],
        poses: NDArray[np.float64],
        doubts: NDArray[np.float64] | None = None,
    ) -> Any:
        """After one more imagined frame, the executed actions [B, 7] that led there, and the poses now."""


@dataclass(frozen=True)
class Start:
    """Where one episode begins.

    Attributes:
        frame: uint8 [H, W, 3], of the world model's frame size.
        pose: float64 [7], the gripper's pose (wfm_sim/actions.py).
        seed: Seeds the world model's noise in this row.
        instruction: The task in words.
        task, target_colour: Told to the judge; None where nothing is judged.
        info: What else `info` says at every step (layout, scene_seed, episode, frame, notice).
        first_frame: uint8 [H, W, 3], of a recorded episode that is entered later than at its first frame.
        camera: What a camera-conditioned model's `start` is told of this row: intrinsics [4] in pixels, poses
            [1, 4, 4], and depth [1, H, W] where it is known.
    """

    frame: NDArray[np.uint8]
    pose: NDArray[np.float64]
    seed: int
    instruction: str = ""
    task: str | None = None
    target_colour: str | None = None
    info: dict[str, Any] = field(default_factory=dict)
    first_frame: NDArray[np.uint8] | None = None
    camera: dict[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def judged(self) -> bool:
        """Whether there is a task to judge."""
        return self.task is not None and self.target_colour is not None


@dataclass(frozen=True)
class Rules:
    """When an episode ends, and what counts as success.

    Attributes:
        max_steps: Truncation.
        terminate_on_success: Whether success ends the episode.
        success_threshold: Probability above which the judge's answer counts as a success.
        success_frames: How many successive frames must be judged a success before the episode is one: a single
            misjudged frame ends nothing.
        workspace: Where dead reckoning clips the pose to.
    """

    max_steps: int
    terminate_on_success: bool = True
    success_threshold: float = 0.5
    success_frames: int = 2
    workspace: Workspace | None = None


@dataclass(frozen=True)
class World:
    """A world model with a judge of its frames (None: nothing is ever a success), the rules, and what says how far to
    believe each frame (None: nothing is said). `trust_notice` is what every user must know of the trust, or ""."""

    model: WorldModel
    judge: Judges | None
    rules: Rules
    trust: Trusts | None = None
    trust_notice: str = ""

    @property
    def has_pose(self) -> bool:
        """Whether conditions are canonical robot actions, so that the pose can be dead reckoned."""
        return tuple(self.model.spec.condition_units) == UNITS


@dataclass(frozen=True)
class Episodes:
    """B episodes at one moment. Nothing in it is ever changed in place."""

    state: Any  # the world model's, of B rows
    starts: tuple[Start, ...]
    frames: NDArray[np.uint8]  # [B, H, W, 3], the latest
    poses: NDArray[np.float64]  # [B, 7]
    steps: NDArray[np.int64]  # [B], taken so far
    hits: NDArray[np.int64]  # [B], successive frames judged a success up to now
    success: NDArray[np.bool_]  # [B]
    progress: NDArray[np.float64]  # [B], in [0, 1]
    terminated: NDArray[np.bool_]  # [B]
    truncated: NDArray[np.bool_]  # [B]
    trust: Any = None  # its state, of B rows; None where nothing is said of it

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def ended(self) -> NDArray[np.bool_]:
        """bool [B]."""
        return self.terminated | self.truncated


_ARRAYS = ("frames", "poses", "steps", "hits", "success", "progress", "terminated", "truncated")


@dataclass(frozen=True)
class Steps:
    """What n inner steps of B episodes gave. An episode that ends inside repeats its last frame and pose from there
    on, with reward 0 and its terminated and truncated flags standing, so that the last entry is always valid."""

    frames: NDArray[np.uint8]  # [B, n, H, W, 3]
    poses: NDArray[np.float64]  # [B, n, 7]
    rewards: NDArray[np.float64]  # [B, n]
    terminated: NDArray[np.bool_]  # [B, n]
    truncated: NDArray[np.bool_]  # [B, n]
    taken: NDArray[np.int64]  # [B], inner steps that were really taken, 1..n


def begin(world: World, starts: Sequence[Start]) -> Episodes:
    """Episodes at their first frame."""
    frames = np.stack([start.frame for start in starts])
    state = _begun(world.model, frames, starts)
    probability, progress = _judge(world, frames, starts)
    rows = len(starts)
    hits = (probability > world.rules.success_threshold).astype(np.int64)
    no = np.zeros(rows, dtype=bool)
    poses = np.stack([np.asarray(start.pose, dtype=np.float64) for start in starts])
    return Episodes(
        state=state,
        starts=tuple(starts),
        frames=frames,
        poses=poses,
        steps=np.zeros(rows, dtype=np.int64),
        hits=hits,
        success=hits >= world.rules.success_frames,
        progress=progress,
        terminated=no,
        truncated=no,
        trust=None if world.trust is None else world.trust.start(frames, poses, **_doubts(state)),
    )


def _begun(model: WorldModel, frames: NDArray[np.uint8], starts: Sequence[Start]) -> Any:
    """The model's state; a batch whose rows are told different things (some with depth) is begun in groups."""
    seeds = [start.seed for start in starts]
    kinds = [tuple(start.camera) for start in starts]
    if len(set(kinds)) > 1:
        parts = [_begun(model, frames[i : i + 1], starts[i : i + 1]) for i in range(len(starts))]
        return type(parts[0]).cat(parts)
    told = {name: np.stack([start.camera[name] for start in starts]) for name in kinds[0]}
    return model.start(frames[:, None], seeds=seeds, **told)


def advance(world: World, episodes: Episodes, actions: NDArray[np.float32]) -> tuple[Episodes, Steps]:
    """Imagine n further frames of every episode: n / frames_per_step calls of the world model for the whole batch.

    Args:
        world: Model, judge and rules.
        episodes: B episodes, none of them ended; left unchanged.
        actions: float32 [B, n, A], checked (envs/checks.py), n a multiple of the model's frames per step.
    """
    n, per_call = actions.shape[1], world.model.spec.frames_per_step
    now = episodes
    history: list[tuple[Episodes, NDArray[np.float64]]] = []
    taken = np.zeros(len(episodes), dtype=np.int64)
    for first in range(0, n, per_call):
        if now.ended.all():  # nothing left to imagine
            history += [(now, np.zeros(len(now)))] * (n - first)
            break
        conditions, poses = _executed(world, now.poses, actions[:, first : first + per_call])
        state, frames = world.model.step(now.state, conditions)
        now = replace(now, state=state)
        for inner in range(per_call):
            taken += ~now.ended
            now, rewards = _count(world, now, frames[:, inner], conditions[:, inner], poses[:, inner])
            history.append((now, rewards))
    return now, Steps(
        frames=np.stack([e.frames for e, _ in history], axis=1),
        poses=np.stack([e.poses for e, _ in history], axis=1),
        rewards=np.stack([r for _, r in history], axis=1),
        terminated=np.stack([e.terminated for e, _ in history], axis=1),
        truncated=np.stack([e.truncated for e, _ in history], axis=1),
        taken=taken,
    )


def _executed(
    world: World, pose: NDArray[np.float64], actions: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """What the model is driven with, actions [B, n, A] as the workspace lets them pass, and the poses [B, n, 7] they
    lead to; poses stay as they are where conditions are no robot actions."""
    if not world.has_pose:
        return actions, np.repeat(pose[:, None], actions.shape[1], axis=1)
    executed, poses = np.empty_like(actions), np.empty((*actions.shape[:2], pose.shape[1]))
    for k in range(actions.shape[1]):
        if world.rules.workspace is None:
            executed[:, k], pose = actions[:, k], apply_action(pose, actions[:, k])
        else:
            executed[:, k], pose = executed_action(pose, actions[:, k], world.rules.workspace)
        poses[:, k] = pose
    return executed, poses


def _count(
    world: World,
    before: Episodes,
    frames: NDArray[np.uint8],
    actions: NDArray[np.float32],
    poses: NDArray[np.float64],
) -> tuple[Episodes, NDArray[np.float64]]:
    """One inner step's book-keeping: pose, judgement, reward and end, with ended rows left as they were. `before` has
    the world model's new state already."""
    rules = world.rules
    probability, progress = _judge(world, frames, before.starts)
    hits = np.where(probability > rules.success_threshold, before.hits + 1, 0)
    success = hits >= rules.success_frames
    progress = np.where(success, 1.0, progress)
    steps = before.steps + 1
    after = replace(
        before,
        frames=frames,
        poses=poses,
        steps=steps,
        hits=hits,
        success=success,
        progress=progress,
        terminated=success & rules.terminate_on_success,
        truncated=steps >= rules.max_steps,
        trust=None
        if world.trust is None
        else world.trust.step(before.trust, frames, actions, poses, **_doubts(before.state)),
    )
    # As in the twin: the gain in progress, plus 1 in each step that ends in success.
    rewards = progress - before.progress + success
    if before.ended.any():
        after = _where(before.ended, before, after)
        rewards = np.where(before.ended, 0.0, rewards)
    return after, rewards


def _doubts(state: Any) -> dict[str, NDArray[np.float64]]:
    """What a trust is told of a world model's state: nothing, unless it has doubts."""
    doubts = getattr(state, "doubts", None)
    return {} if doubts is None else {"doubts": doubts}


def _judge(
    world: World, frames: NDArray[np.uint8], starts: Sequence[Start]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Probability of success and progress, both 0 where there is no judge, or no task for it to judge."""
    probability, progress = np.zeros(len(frames)), np.zeros(len(frames))
    rows = [i for i, start in enumerate(starts) if start.judged]
    if world.judge is not None and rows:
        chosen = [starts[i] for i in rows]
        probability[rows], progress[rows] = world.judge(
            frames[rows],
            np.stack([start.frame if start.first_frame is None else start.first_frame for start in chosen]),
            [str(start.task) for start in chosen],
            [str(start.target_colour) for start in chosen],
        )
    return probability, progress


def _where(mask: NDArray[np.bool_], yes: Episodes, no: Episodes) -> Episodes:
    def pick(name: str) -> NDArray[Any]:
        a, b = getattr(yes, name), getattr(no, name)
        return np.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    arrays: dict[str, Any] = {name: pick(name) for name in _ARRAYS}
    return replace(no, trust=None if no.trust is None else yes.trust.where(mask, no.trust), **arrays)


def select(episodes: Episodes, rows: Sequence[int] | NDArray[Any]) -> Episodes:
    """The chosen rows (a list, an index or bool array), as episodes of their own; a row may be chosen twice: a fork."""
    index = np.arange(len(episodes))[np.asarray(rows)]
    arrays = {name: getattr(episodes, name)[index] for name in _ARRAYS}
    return replace(
        episodes,
        state=episodes.state[index],
        starts=tuple(episodes.starts[i] for i in index),
        trust=None if episodes.trust is None else episodes.trust[index],
        **arrays,
    )


def merge(parts: Sequence[tuple[NDArray[Any], Episodes]]) -> Episodes:
    """Episodes put together again: each part comes with the rows (int) that it takes in the result."""
    parts = [(rows, part) for rows, part in parts if len(rows)]
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    if len(parts) == 1:
        only = parts[0][1]
        return only if np.array_equal(order, np.arange(len(only))) else select(only, order)
    first = parts[0][1]
    together = replace(
        first,
        state=type(first.state).cat([part.state for _, part in parts]),
        starts=tuple(start for _, part in parts for start in part.starts),
        trust=None if first.trust is None else type(first.trust).cat([part.trust for _, part in parts]),
        **{name: np.concatenate([getattr(part, name) for _, part in parts]) for name in _ARRAYS},
    )
    return select(together, order)


def exchange(episodes: Episodes, rows: Sequence[int] | NDArray[Any], others: Episodes) -> Episodes:
    """Episodes with the given rows (int, each once) taken by `others`, in order; both are left as they are."""
    index = np.asarray(rows)
    kept = np.setdiff1d(np.arange(len(episodes)), index)
    direct = getattr(episodes.state, "exchanged", None)
    if not len(kept) or direct is None:
        return merge([(index, others)] + ([(kept, select(episodes, kept))] if len(kept) else []))
    order = np.arange(len(episodes))
    order[index] = len(episodes) + np.arange(len(others))
    starts = (*episodes.starts, *others.starts)
    trust = episodes.trust
    return replace(
        episodes,
        state=direct(index.tolist(), others.state),
        starts=tuple(starts[i] for i in order),
        trust=None if trust is None else type(trust).cat([trust, others.trust])[order],
        **{name: np.concatenate([getattr(episodes, name), getattr(others, name)])[order] for name in _ARRAYS},
    )


def row_info(world: World, episodes: Episodes, row: int) -> dict[str, Any]:
    """One row's `info`: new objects at every call."""
    start = episodes.starts[row]
    info: dict[str, Any] = {"is_success": bool(episodes.success[row])}
    if world.judge is not None and start.judged:
        info["progress"] = float(episodes.progress[row])
    if episodes.trust is not None:
        info["trust"] = float(episodes.trust.trust[row])
        info["trust_horizon"] = float(episodes.trust.horizon[row])
        info["trust_lowest"] = float(episodes.trust.lowest[row])
    if world.trust_notice:
        info["trust_notice"] = world.trust_notice
    described = getattr(episodes.state, "info", None)  # where the camera is, of a model that is driven by one
    if described is not None:
        info |= described(row)
    info["instruction"] = start.instruction
    if start.task is not None:
        info["task"] = start.task
    if start.target_colour is not None:
        info["target_colour"] = start.target_colour
    if world.model.spec.notice:
        info["model_notice"] = world.model.spec.notice
    return {**info, **_copy(start.info)}


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return value.copy() if isinstance(value, np.ndarray) else value


def observation(world: World, frames: NDArray[np.uint8], poses: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Copies as a user gets them: pixels uint8 [..., H, W, 3] and, for robot actions, agent_pos float32 [..., 7]."""
    obs: dict[str, NDArray[Any]] = {"pixels": np.array(frames)}
    if world.has_pose:
        obs["agent_pos"] = poses.astype(np.float32)
    return obs
