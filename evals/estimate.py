"""An estimate is a number with its 95 % interval, or 'unscored' with its reason; every eval returns these."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A number with its two-sided 95 % interval, or the reason why there is none.

    Attributes:
        value: The point estimate; None when unscored.
        low, high: Bounds of the interval; None where no interval can be given.
        n: How many independent units (episodes, policies) it rests on.
        unscored: Why there is no value; empty when there is one.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    unscored: str = ""

    @classmethod
    def none(cls, reason: str, n: int = 0) -> Estimate:
        """An 'unscored' estimate with its reason."""
        return cls(None, n=n, unscored=reason)

    def format(self, digits: int = 2, scale: float = 1.0, unit: str = "") -> str:
        """'1.23 [1.10, 1.36] px', or 'unscored (reason)'."""
        if self.value is None:
            return f"unscored ({self.unscored})"
        text = f"{self.value * scale:.{digits}f}"
        if self.low is not None and self.high is not None:
            text += f" [{self.low * scale:.{digits}f}, {self.high * scale:.{digits}f}]"
        return f"{text} {unit}".rstrip()

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary; 'unscored' is present only when it says something."""
        fields = asdict(self)
        if not self.unscored:
            del fields["unscored"]
        return fields


def percentile_interval(samples: NDArray[np.float64]) -> tuple[float, float]:
    """The central 95 % of samples [R]."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(samples, [tail, 100 - tail])
    return float(low), float(high)


def as_scores(values: ArrayLike) -> NDArray[np.float64]:
    """Scores of one policy or of one world as float64 [N]; booleans become 0 and 1."""
    return np.asarray(values, dtype=np.float64).ravel()


def not_finite(*arrays: NDArray[np.float64]) -> str:
    """Why scores cannot be used: 'N of M values are not finite'; empty when all can."""
    bad, total = sum(int((~np.isfinite(a)).sum()) for a in arrays), sum(a.size for a in arrays)
    return f"{bad} of {total} values are not finite" if bad else ""
