"""The laws that are measured, and what a measurement is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from wfm_sim.evals.estimate import Estimate
from wfm_sim.evals.physics.laws_tracks import Pair, Tracks

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Law:
    """One law, and what a deviation from the truth's value means.

    Attributes:
        title: In words.
        unit: Of its measurements; '' for none.
        side: Which deviations count: 'both', only values 'above' the truth's, or only those 'below'.
        least: The smallest deviation that is ever called broken, in the unit: what is less does not matter, however
            finely it could be measured.
    """

    title: str
    unit: str
    side: Literal["both", "above", "below"]
    least: float


LAWS: dict[str, Law] = {
    "gravity": Law("acceleration in free fall", "m/s2", "both", 1.0),
    "restitution": Law("speed after the bounce over that before", "", "both", 0.1),
    "slope_acceleration": Law("acceleration down the slope", "m/s2", "both", 0.15),
    "friction": Law("coefficient of friction on the slope", "", "both", 0.03),
    "bottom_time": Law("time to the bottom of the half-pipe", "s", "both", 1 / 24),
    "energy_kept": Law("part of the energy left at the end of the first swing", "", "both", 0.1),
    "stands": Law("the stack stands (1) or falls (0)", "", "both", 0.5),
    "fall_time": Law("time at which the stack has begun to fall", "s", "both", 1 / 24),
    "topple_time": Law("time at which a domino leans by 20 degrees", "s", "both", 1 / 24),
    "topple_order": Law("by how much a domino topples before the one that pushes it", "s", "above", 1 / 24),
    "tilt_rate": Law("largest rate of the seesaw's plank, with its sign", "rad/s", "both", 0.2),
    "tilt": Law("tilt of the seesaw's plank at the end", "degrees", "both", 3.0),
    "precession": Law("precession of the gyroscope about +z, with its sign", "rad/s", "both", 0.1),
    "permanence": Law("frames in which a body is gone that should be seen, or in pieces", "frames", "above", 3.0),
    "penetration": Law("by how far two bodies are in each other", "m", "above", 0.03),
    "energy": Law("rise of the energy, as height of all that moves", "m", "above", 0.05),
    "time_order": Law("likeness to the truth's motion (1) rather than to it played backwards (-1)", "", "below", 1.2),
    "smoothness": Law("third over first differences of the paths", "", "above", 1.0),
}


@dataclass(frozen=True)
class Measurement:
    """One quantity of one video.

    Attributes:
        law: Its name in LAWS.
        subject: The body or bodies; '' for the whole clip.
        found: The value in the video, with the interval of its fit where it comes from one, or 'unscored'.
        truth: The value in the true video by the same method, from the same frames.
        expected: What theory says; None where it says nothing.
    """

    law: str
    subject: str
    found: Estimate
    truth: Estimate
    expected: float | None = None

    @property
    def unscored(self) -> str:
        """Why there is nothing to compare; '' when there is."""
        return f"in the truth: {self.truth.unscored}" if self.truth.unscored else self.found.unscored

    @property
    def deviation(self) -> float | None:
        """How far the value is on the wrong side of the truth's, in the law's unit, at least 0; None when unscored."""
        if self.found.value is None or self.truth.value is None:
            return None
        gap = self.found.value - self.truth.value
        side = LAWS[self.law].side
        return abs(gap) if side == "both" else max(gap if side == "above" else -gap, 0.0)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary."""
        return {
            "law": self.law,
            "subject": self.subject,
            "unit": LAWS[self.law].unit,
            "found": self.found.to_json(),
            "truth": self.truth.to_json(),
            "expected": self.expected,
            "deviation": self.deviation,
        }


def compare(
    law: str, subject: str, pair: Pair, read: Callable[[Tracks], Estimate], expected: float | None = None
) -> Measurement:
    """The measurement that `read` makes of either video's tracks."""
    truth = read(pair.true)
    found = Estimate.none("not measured") if truth.unscored else read(pair.found)
    return Measurement(law, subject, found, truth, expected)


def value(number: float, frames: int = 0) -> Estimate:
    """A plain value, of how many frames."""
    return Estimate(float(number), n=frames)


def fitted(design: Floats, target: Floats, index: int, sign: float = 1.0) -> Estimate:
    """One coefficient of a least-squares fit with its 95 % interval.

    Args:
        design: float64 [R, P].
        target: float64 [R].
        index: Which coefficient.
        sign: Factor that turns it into the value that is asked for.
    """
    from scipy.stats import t as student

    answer, _, rank, _ = np.linalg.lstsq(design, target, rcond=None)
    freedom = len(target) - design.shape[1]
    if rank < design.shape[1] or freedom < 1:
        return Estimate.none("too few frames for the fit", len(target))
    spread = float(np.sum((target - design @ answer) ** 2)) / freedom
    error = abs(sign) * float(np.sqrt(spread * np.linalg.inv(design.T @ design)[index, index]))
    middle, reach = sign * float(answer[index]), float(student.ppf(0.975, freedom)) * error
    return Estimate(middle, middle - reach, middle + reach, len(target))
