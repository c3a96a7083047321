"""How large actions are, against how large they should be: which change of units explains the ratio best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.action_contract import ActionContract, Normalisation
from wfm_sim.actions import ACTION_HIGH, ACTION_LOW

Array = NDArray[np.float64]
FAST = 0.95  # the quantile of step sizes that counts as 'fast': robust to pauses, and alike across robots at one rate
STILL = (1e-5, 1e-4)  # metres and radians per step below which nothing moves


@dataclass(frozen=True)
class Reference:
    """How fast a model's own data move: 95 % quantiles of |translation| [m] and |rotation| [rad] per step at 5 Hz."""

    name: str
    translation: float
    rotation: float


# Of the first 1,500 episodes of datasets/tabletop (experts, noisy experts, play, random): 0.034 to 0.051 m by policy.
TABLETOP = Reference("the tabletop's data", 0.038, 0.21)
# Between 25 + 5 episodes of BridgeData V2 (0.018 and 0.039 m), 5 of DROID (0.030 m) and the tabletop.
ROBOT_ARMS = Reference("arms in BridgeData V2, DROID and the tabletop", 0.030, 0.13)


@dataclass(frozen=True)
class Sizes:
    """Fast steps of some actions, as multiples of what they should be. None where there is too little motion."""

    translation: float | None
    rotation: float | None
    fast_translation: float
    fast_rotation: float


@dataclass(frozen=True)
class Candidate:
    """A change of units: it multiplies translations and rotations by so much."""

    code: str
    says: str
    translation: float
    rotation: float
    changes: dict[str, Any]


_BOUNDS = Normalisation(
    "bounds", (*map(float, ACTION_LOW[:6]), 0.0), (*map(float, ACTION_HIGH[:6]), 0.0)
)  # the gripper stays as it is
CANDIDATES = (
    Candidate("", "as it should be", 1.0, 1.0, {}),
    Candidate(
        "x20-missing",
        "x20 scale missing: the numbers are 20 times too small (metres and radians divided by 20, or never scaled)",
        1 / 20,
        1 / 20,
        {"translation_scale": 1 / 20, "rotation_scale": 1 / 20},
    ),
    Candidate(
        "x20-twice",
        "x20 scale applied twice: the numbers are 20 times too large (scaled already, and the model scales them again)",
        20.0,
        20.0,
        {"translation_scale": 20.0, "rotation_scale": 20.0},
    ),
    Candidate("millimetres", "translations look like millimetres", 1000.0, 1.0, {"translation_unit": "mm"}),
    Candidate("centimetres", "translations look like centimetres", 100.0, 1.0, {"translation_unit": "cm"}),
    Candidate("degrees", "rotations look like degrees", 1.0, 180 / np.pi, {"rotation_unit": "deg"}),
    Candidate(
        "millimetres-degrees",
        "translations look like millimetres and rotations like degrees",
        1000.0,
        180 / np.pi,
        {"translation_unit": "mm", "rotation_unit": "deg"},
    ),
    Candidate("normalised", "numbers look normalised by their bounds to -1..1", 20.0, 4.0, {"normalisation": _BOUNDS}),
)


def sizes(actions: Sequence[Array], reference: Reference) -> Sizes:
    """Of canonical-as-claimed actions, a list of [n, >=6]."""
    rows = np.concatenate([np.asarray(a)[:, :6] for a in actions]) if len(actions) else np.zeros((0, 6))
    if not len(rows):
        return Sizes(None, None, 0.0, 0.0)
    translation = float(np.quantile(np.linalg.norm(rows[:, :3], axis=1), FAST))
    rotation = float(np.quantile(np.linalg.norm(rows[:, 3:], axis=1), FAST))
    return Sizes(
        translation / reference.translation if translation > STILL[0] else None,
        rotation / reference.rotation if rotation > STILL[1] else None,
        translation,
        rotation,
    )


def ratios_to_states(actions: Sequence[Array], states: Sequence[Array]) -> Sizes:
    """The same against recorded poses [n+1, >=6]: root mean square of the action over that of the pose's own step.

    It does not depend on the frame, since lengths and angles are the same seen from anywhere.
    """
    from scipy.spatial.transform import Rotation

    told = np.concatenate([a[:, :6] for a in actions])
    moved = np.concatenate([np.diff(s[:, :3], axis=0) for s in states])
    turned = np.concatenate(
        [
            (Rotation.from_euler("xyz", s[:-1, 3:6]).inv() * Rotation.from_euler("xyz", s[1:, 3:6])).as_rotvec()
            for s in states
        ]
    )

    def ratio(written: Array, seen: Array, still: float) -> float | None:
        a, b = float(np.sqrt(np.mean(written**2))), float(np.sqrt(np.mean(seen**2)))
        return a / b if a > still / 20 and b > still else None

    return Sizes(
        ratio(told[:, :3], moved, 1e-4),
        ratio(told[:, 3:], turned, 1e-3),
        float(np.quantile(np.linalg.norm(moved, axis=1), FAST)),
        float(np.quantile(np.linalg.norm(turned, axis=1), FAST)),
    )


def best_candidate(found: Sizes, tolerance: tuple[float, float]) -> tuple[Candidate, float, float]:
    """The candidate nearest to the ratios found.

    Args:
        found: With at least one ratio.
        tolerance: Standard deviations of the logarithms of the two ratios when the units are right.

    Returns:
        It, how much more likely it is than 'as it should be' (difference of log-likelihoods), and its misfit in
        standard deviations.
    """
    misfits = {candidate.code: _misfit(found, candidate, tolerance) for candidate in CANDIDATES}
    best = min(CANDIDATES, key=lambda candidate: misfits[candidate.code])
    return best, (misfits[""] - misfits[best.code]) / 2, float(np.sqrt(misfits[best.code]))


def _misfit(found: Sizes, candidate: Candidate, tolerance: tuple[float, float]) -> float:
    total = 0.0
    for ratio, factor, spread in zip(
        (found.translation, found.rotation), (candidate.translation, candidate.rotation), tolerance, strict=True
    ):
        if ratio is not None:
            total += float(np.log(ratio / factor) / spread) ** 2
    return total


def changed(source: ActionContract, candidate: Candidate) -> ActionContract:
    """`source` with the candidate's units instead: the contract that the actions seem to be written in."""
    changes = dict(candidate.changes)
    for name in ("translation_scale", "rotation_scale"):
        if name in changes:
            value = getattr(source, name) * changes[name]
            # Declared scaled and not scaled, or the other way round: that is a scale of 1.
            changes[name] = 1.0 if abs(value - 1) < 1e-9 else value
    name = source.name if source.name.endswith(candidate.code) else f"{source.name}, {candidate.code}"
    return replace(source, name=name, **changes)


def looks_standardised(actions: Sequence[Array]) -> bool:
    """Whether all six displacement numbers have mean near 0 and standard deviation near 1, as mean_std leaves them."""
    rows = np.concatenate([np.asarray(a)[:, :6] for a in actions])
    deviation, mean = rows.std(axis=0), rows.mean(axis=0)
    return bool(((deviation > 0.5) & (deviation < 2.0)).all() and (np.abs(mean) < 0.6).all())


RATE_FACTORS = (3, 6, 10)  # 15, 30 and 50 Hz into 5 Hz; neighbours (20 Hz) cannot be told apart by statistics
RATE_STEPS = 12  # of an episode, at least: shorter ones are cut out of something and say little about speed
RATE_LIMIT = -1.0


def rate_scores(actions: Sequence[Array]) -> Array:
    """How fast and how uneven each episode moves, step by step, as one number; [E], episodes too short left out.

    ln(fast step / 30 mm) + 0.7 ln(roughness / 0.3), where roughness is the mean square of the change of the
    displacement over twice the mean square of the displacement: actions at a higher rate are both smaller and more
    alike from one to the next, so one goes with the other. Medians over episodes seen at 4 or 5 Hz: WorldGym's Bridge
    -0.35, DROID 0.22, the tabletop 0.08 to 0.91 (12 episodes of a mixture); the same recordings interpolated to 15 Hz:
    below -2.2, -1.6, and -0.95 to -2.2.
    """
    scores = []
    for rows in actions:
        steps = rows[:, :3]
        power = float((steps**2).sum()) * (len(rows) - 1) / max(len(rows), 1)
        if len(rows) >= RATE_STEPS and power > STILL[0] ** 2:
            fast = float(np.quantile(np.linalg.norm(steps, axis=1), FAST))
            rough = float((np.diff(steps, axis=0) ** 2).sum()) / (2 * power)
            scores.append(np.log(max(fast, STILL[0]) / 0.03) + 0.7 * np.log(max(rough, 0.005) / 0.3))
    return np.array(scores)


def rate_factor(score: float) -> int:
    """How many times too fast actions come, as one of RATE_FACTORS: k times faster lowers the score by 1.75 ln k."""
    return min(RATE_FACTORS, key=lambda k: abs(0.25 - 1.75 * float(np.log(k)) - score))
