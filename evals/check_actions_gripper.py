"""Checks of recorded gripper numbers: against the recorded opening where there is one, else by when they change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from wfm_sim.action_contract import ActionContract
from wfm_sim.evals.check_actions_report import Check, Finding
from wfm_sim.evals.check_actions_view import Array, Outcome, View
from wfm_sim.evals.statistics import wilson

# What counts as the low point of a way down and up again: metres that it goes down before and up after, metres that it
# may lie above the lowest point so far, and seconds to each side. A block of 4 cm cannot be lifted off by less.
DROP, LOWEST, REACH_SECONDS = 0.03, 0.015, 1.6
LEAST_GRASPS = 6  # with fewer, one odd episode decides


def inverted_gripper(source: ActionContract) -> ActionContract:
    """`source` with open and closed exchanged."""
    name = f"{source.name}, gripper-inverted"
    return replace(source, name=name, gripper_open=source.gripper_closed, gripper_closed=source.gripper_open)


def check_gripper(view: View) -> Outcome:
    """Are open and closed exchanged?

    A recorded opening decides by its correlation with the command. Without one, a task played backwards in time and
    with the gripper inverted looks like another task (placing becomes grasping), so statistics over whole episodes say
    nothing. What has a direction is how they begin: with an empty hand. So the *first* event closes; and where it comes
    at the low point of a way down and up again it is a grasp, not play.
    """
    if view.states is not None and view.states[0].shape[1] >= 7:
        told = [rows[:, 6] - 0.5 for rows in view.actions]
        seen = [s[1:, 6] for s in view.states]
        spread = float(np.std(np.concatenate(seen))), float(np.std(np.concatenate(told)))
        if min(spread) > 0.05:
            correlation, low, high = _correlation(told, seen)
            words = f"command and recorded gripper correlate at {correlation:+.2f} [{low:+.2f}, {high:+.2f}]"
            if correlation < -0.3 and high < 0:
                return _inverted(view, words, "strong")
            if correlation > 0.3 and low > 0:
                return Check("gripper", "ok", words)
    return _check_events(view)


def _check_events(view: View) -> Outcome:
    openings = [rows[:, 6] for rows in view.actions]
    reach = max(2, round(REACH_SECONDS * view.source.rate_hz))
    closes, opens = first_events(openings)
    grasps, releases = first_events(openings, _heights(view), reach)
    share, grasped = wilson(closes, closes + opens), wilson(grasps, grasps + releases)
    words = f"the first gripper event closes in {closes} of {closes + opens} episodes that have one"
    words += f", and in {grasps} of {grasps + releases} in which it comes at the low point of a way down and up"
    if share.value is None or share.low is None or share.high is None:
        return Check("gripper", "cannot tell", "the gripper never changes")
    # All first events, play included, must speak clearly; those that look like grasps, only more often than not.
    backwards = grasped.high is not None and grasps + releases >= LEAST_GRASPS and grasped.high < 0.5
    if share.high < 0.35 or (backwards and opens > closes):
        return _inverted(view, words, "moderate")
    return Check("gripper", "ok" if share.low > 0.5 else "cannot tell", words)


def _inverted(view: View, words: str, strength: str) -> Finding:
    says = "gripper inverted: open and closed are exchanged"
    return Finding("gripper-inverted", says, strength, (words,), inverted_gripper(view.source))  # type: ignore[arg-type]


def _heights(view: View) -> list[Array]:
    """The gripper's height before each action and after the last [n+1], metres, from anywhere: recorded, or the sum of
    the vertical displacements, as of a gripper that points down."""
    if view.states is not None:
        return [s[:, 2] for s in view.states]
    return [np.concatenate([[0.0], np.cumsum(rows[:, 2])]) for rows in view.actions]


def first_events(openings: Sequence[Array], heights: Sequence[Array] | None = None, reach: int = 8) -> tuple[int, int]:
    """In how many episodes the first change of the gripper closes it, and in how many it opens it.

    Args:
        openings: Gripper commands [n] of each episode, 1 = open.
        heights: [n+1] of each episode; given, only changes at the low point of a way down and up again count.
        reach: Steps that the way down and the way up may take.
    """
    closes = opens = 0
    for episode, opening in enumerate(openings):
        is_open = opening > 0.5
        change = np.flatnonzero(is_open[1:] != is_open[:-1])
        if not len(change) or (heights is not None and not _is_low_point(heights[episode], int(change[0]) + 1, reach)):
            continue
        closes += bool(is_open[change[0]])
        opens += not is_open[change[0]]
    return closes, opens


def _is_low_point(heights: Array, step: int, reach: int) -> bool:
    here = heights[step]
    before, after = heights[max(0, step - reach) : step + 1], heights[step : step + reach + 1]
    return bool(before.max() - here > DROP and after.max() - here > DROP and here - heights[: step + 1].min() < LOWEST)


def _correlation(told: Sequence[Array], seen: Sequence[Array]) -> tuple[float, float, float]:
    """Pearson's r of pooled values with its bootstrap interval over episodes."""

    def pooled(rows: Sequence[int]) -> float:
        a, b = np.concatenate([told[i] for i in rows]), np.concatenate([seen[i] for i in rows])
        return float(np.corrcoef(a, b)[0, 1]) if min(a.std(), b.std()) > 1e-6 else 0.0

    rng = np.random.default_rng(0)
    samples = [pooled(rng.integers(len(told), size=len(told)).tolist()) for _ in range(300)]
    low, high = (float(q) for q in np.quantile(samples, [0.025, 0.975]))
    return pooled(range(len(told))), low, high
