"""Designed experiments in the physics twin: what does a policy do when the gripper is moved or turned before it acts?

A policy that wants to go somewhere wants the same displacement in space however its gripper happens to be turned. So
the numbers of a gripper-frame policy turn against the gripper and those of a base-frame policy stay as they are; and a
policy that corrects its orientation answers a turn about one axis in the number of that axis, with the opposite sign.
Scene, start and the policy's own randomness are the same with every turn, so differences are answers to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from wfm_sim.envs.twin import TabletopMuJoCoEnv
from wfm_sim.policies.base import Policy, batch_of_one

Array = NDArray[np.float64]
TASKS = ("pick", "place", "push")
# Canonical actions that turn the gripper one way; the other way is their negative. The workspace allows 0.3 rad of
# roll and pitch and 0.8 rad of yaw.
TURNS = {"roll": (3, 0.24, 1), "pitch": (4, 0.24, 1), "yaw": (5, 0.24, 2)}
# Moves forward and aside: a policy that does not answer these goes nowhere in particular, and its frame cannot be told.
SHIFTS = {"forward": (0, 0.045, 1), "left": (1, 0.045, 1)}
COPIES = 8  # seeds per scene that a policy's answers are averaged over


class BlindTwin(TabletopMuJoCoEnv):
    """The twin without rendering, three times as fast, for policies that do not look at pixels."""

    def _observation(self) -> dict[str, NDArray[Any]]:
        space = self._agent_pos_space
        pose = np.clip(self._pose.astype(np.float32), space.low, space.high)
        return {"pixels": self._frame.copy(), "agent_pos": pose}


def make_twin(policy: Policy) -> TabletopMuJoCoEnv:
    """A twin for this policy: without rendering where its first actions are the same on black frames."""
    seeing = TabletopMuJoCoEnv()
    observation, info = seeing.reset(seed=0, options={"task": TASKS[0]})
    black = {**observation, "pixels": np.zeros_like(observation["pixels"])}
    answers = []
    for given in (observation, black):
        policy.reset(batch_of_one(info), [0])
        answers.append([policy.act(batch_of_one(given)) for _ in range(2)])
    if np.array_equal(answers[0], answers[1]):
        seeing.close()
        return BlindTwin()
    return seeing


@dataclass(frozen=True)
class Answers:
    """A policy's mean first actions after opposite turns of the gripper, in S scenes.

    Attributes:
        actions: [S, 3, 2, 7]: scene, axis (roll, pitch, yaw), turned one way and the other.
        rotations: [S, 3, 2, 3]: the gripper's rotation vectors at those moments, radians.
        shifted: [S, 2, 2, 3]: translations after moves instead of turns: scene, direction, one way and the other.
    """

    actions: Array
    rotations: Array
    shifted: Array


def probe(env: TabletopMuJoCoEnv, policy: Policy, seeds: Sequence[int], copies: int = COPIES) -> Answers:
    """Turn and move the gripper in every scene, each way along each axis, and ask for the first action."""
    actions = np.zeros((len(seeds), len(TURNS), 2, 7))
    rotations = np.zeros((len(seeds), len(TURNS), 2, 3))
    shifted = np.zeros((len(seeds), len(SHIFTS), 2, 3))
    for scene, seed in enumerate(seeds):
        _, info = env.reset(seed=seed, options={"task": TASKS[scene % len(TASKS)]})
        start = env.snapshot()
        infos = repeat(batch_of_one(info), copies)
        for axis, (index, size, times) in enumerate([*TURNS.values(), *SHIFTS.values()]):
            for way, sign in enumerate((1.0, -1.0)):
                env.restore(start)
                move = np.zeros(7)
                move[index], move[6] = sign * size, 1.0
                for _ in range(times):
                    observation = env.step(move)[0]
                policy.reset(infos, [seed + 1000 * copy for copy in range(copies)])
                given = np.asarray(policy.act(repeat(batch_of_one(observation), copies)), dtype=np.float64)
                answer = given.mean(axis=0)
                if axis >= len(TURNS):
                    shifted[scene, axis - len(TURNS), way] = answer[:3]
                    continue
                actions[scene, axis, way] = answer
                pose = observation["agent_pos"].astype(np.float64)
                rotations[scene, axis, way] = Rotation.from_euler("xyz", pose[3:6]).as_rotvec()
    return Answers(actions, rotations, shifted)


def reaction(answers: Answers) -> float:
    """How much a policy's displacements change when the gripper is moved first, over how large they are: 0 for one that
    plays back a recording, about 0.5 for one that heads for something within reach."""
    changed = np.linalg.norm(answers.shifted[:, :, 0] - answers.shifted[:, :, 1], axis=-1)
    size = np.linalg.norm(answers.shifted, axis=-1)
    return float(changed.mean() / max(float(size.mean()), 1e-9))


def repeat(tree: Any, times: int) -> Any:
    """A batch of one as a batch of `times` equal rows."""
    if isinstance(tree, dict):
        return {key: repeat(value, times) for key, value in tree.items()}
    return np.repeat(np.asarray(tree), times, axis=0)


@dataclass(frozen=True)
class FrameEstimate:
    """How far a policy's displacements turn with its gripper: 1 in the gripper frame, 0 in the base frame.

    A gripper-frame policy that never learned to heed how it is turned lies between. Below 0 is only one that is read in
    the wrong frame: a base-frame policy that turns its displacements, as an unskilled one may, the wrong way.

    `low` and `high` bound the 95 % interval over scenes; `explained` is the share of what the displacements differ
    between opposite turns (under the worse of the two readings) that the estimate explains.
    """

    value: float
    low: float
    high: float
    explained: float


_SHARES = np.linspace(-1.0, 2.0, 121)


def estimate_frame(answers: Answers) -> FrameEstimate:
    """The share a for which R(a * rotation) @ translation agrees best between opposite turns."""
    translations, rotations = answers.actions[..., :3], answers.rotations
    misfit = np.zeros((len(translations), len(_SHARES)))
    for column, share in enumerate(_SHARES):
        turned = Rotation.from_rotvec(share * rotations.reshape(-1, 3)).apply(translations.reshape(-1, 3))
        turned = turned.reshape(translations.shape)
        misfit[:, column] = ((turned[:, :, 0] - turned[:, :, 1]) ** 2).sum(axis=(1, 2))
    rng = np.random.default_rng(0)
    draws = rng.integers(len(misfit), size=(1000, len(misfit)))
    samples = _SHARES[misfit[draws].sum(axis=1).argmin(axis=1)]
    total = misfit.sum(axis=0)
    ends = np.interp([0.0, 1.0], _SHARES, total)
    explained = 1 - float(total.min() / max(ends.max(), 1e-12))
    low, high = (float(q) for q in np.quantile(samples, [0.025, 0.975]))
    return FrameEstimate(float(_SHARES[total.argmin()]), low, high, explained)


@dataclass(frozen=True)
class TurnEstimate:
    """How alike a policy's corrections of orientation are to each reading of its three angles, as cosines -1..1.

    `gain` is the cosine of the best reading minus that of the declared one, `low` the lower end of its 95 % interval
    over scenes, `size` the mean correction per radian of turn.
    """

    best: str
    cosines: dict[str, float]
    gain: float
    low: float
    size: float


_READINGS = {
    "": np.eye(3),
    "rotation-sign": -np.eye(3),
    "rotation-order": np.eye(3)[::-1],
    "rotation-order-and-sign": -np.eye(3)[::-1],
}


def estimate_turns(answers: Answers) -> TurnEstimate:
    """Compare the matrix of answers (three numbers to turns about three axes) with minus the identity and its kin."""
    difference = answers.actions[:, :, 0, 3:6] - answers.actions[:, :, 1, 3:6]  # [S, axis, number]
    first, second = (Rotation.from_rotvec(answers.rotations[:, :, way].reshape(-1, 3)) for way in (0, 1))
    angle = (second.inv() * first).magnitude().reshape(difference.shape[:2])
    response = -difference / np.maximum(angle, 1e-6)[..., None]
    rng = np.random.default_rng(0)
    draws = rng.integers(len(response), size=(1000, len(response)))
    mean, samples = response.mean(axis=0), response[draws].mean(axis=1)
    cosines = {code: float(_cosine(mean, reading)) for code, reading in _READINGS.items()}
    best = max(cosines, key=lambda code: cosines[code])
    gains = _cosine(samples, _READINGS[best]) - _cosine(samples, _READINGS[""])
    return TurnEstimate(
        best, cosines, cosines[best] - cosines[""], float(np.quantile(gains, 0.025)), float(np.linalg.norm(mean))
    )


def _cosine(response: Array, reading: Array) -> Any:
    product = (response * reading).sum(axis=(-2, -1))
    return product / np.maximum(np.linalg.norm(response, axis=(-2, -1)) * np.sqrt(3.0), 1e-12)
