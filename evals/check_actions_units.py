"""Checks of recorded numbers: their size, the gripper's range, the rate."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from wfm_sim.action_contract import CANONICAL, Normalisation
from wfm_sim.actions import actions_from_states
from wfm_sim.evals.check_actions_report import Check, Finding, Strength
from wfm_sim.evals.check_actions_scale import (
    CANDIDATES,
    RATE_FACTORS,
    RATE_LIMIT,
    RATE_STEPS,
    Sizes,
    best_candidate,
    changed,
    looks_standardised,
    rate_factor,
    rate_scores,
    ratios_to_states,
    sizes,
)
from wfm_sim.evals.check_actions_view import Outcome, View


def check_scale(view: View) -> Outcome:
    posed = ratios_to_states(view.actions, view.states) if view.states is not None else None
    by_states = posed is not None and posed.translation is not None
    found = posed if by_states and posed is not None else sizes(view.actions, view.reference)
    against = "the steps between the recorded poses" if by_states else view.reference.name
    evidence = _ratio_words(found, against)
    if looks_standardised(view.actions) and not by_states:
        says = "numbers look normalised by mean and standard deviation; declare the contract with its statistics"
        return Finding("normalised", says, "moderate", (evidence,), view.source, mends=False)
    if by_states:
        for k in RATE_FACTORS:
            near = [r for r in (found.translation, found.rotation) if r is not None]
            if len(near) == 2 and all(abs(np.log(r * k)) < 0.12 for r in near):
                found_rate = _rate_finding(
                    view, k, "strong", (evidence, "translation and rotation agree on the factor")
                )
                says = f"{found_rate.says}; the poses come at another rate than the actions, so take the actions from "
                return replace(found_rate, says=says + "the poses (actions_from_states)", mends=False)
    best, gain, misfit = best_candidate(found, (0.22, 0.45) if by_states else (0.45, 0.7))
    if best.code == "normalised" and _beyond_one(view):
        best = next(c for c in CANDIDATES if c.code == "x20-twice")
    odd = misfit > 3 if best.code else misfit > 4
    if by_states and (odd or best.code == "normalised" or (best.code and looks_standardised(view.actions))):
        estimated = _estimate_normalisation(view)
        if estimated is not None:
            return estimated
    if odd and (gain > 4 or not best.code):
        says = "numbers of another size, by no factor that is known"
        return Finding("unknown-scale", says, "moderate", (evidence,), view.source, mends=False)
    if best.code and gain > 4:
        strength: Strength = "strong" if by_states or gain > 8 else "moderate"
        return Finding(best.code, best.says, strength, (evidence,), changed(view.source, best))
    return Check("size", "ok", evidence)


def _estimate_normalisation(view: View) -> Finding | None:
    """Numbers that each are a multiple of the true displacement plus a constant: the normalisation, by least squares.

    None unless that explains every number that varies (R^2 > 0.9), with nothing else wrong.
    """
    if view.states is None or view.source != replace(CANONICAL, name=view.source.name):
        return None
    written = np.concatenate([rows[:, :6] for rows in view.written])
    moved = np.concatenate([actions_from_states(s)[:, :6] for s in view.states]).astype(np.float64)
    shift, scale, worst = np.zeros(7), np.zeros(7), 1.0
    for number in range(6):
        x, y = moved[:, number], written[:, number]
        if x.std() < (1e-3 if number < 3 else 5e-3):  # never moved: what it would be multiplied by is not known
            scale[number] = np.nan
            continue
        slope = float(np.cov(x, y)[0, 1] / x.var(ddof=1))
        shift[number], scale[number] = y.mean() - slope * x.mean(), slope
        worst = min(worst, float(np.corrcoef(x, y)[0, 1] ** 2))
    known = scale[:6][np.isfinite(scale[:6])]
    if worst < 0.9 or not len(known) or (known <= 0).any():
        return None
    # n = (v - mean) / std, so std = 1 / slope; an unmoved number and the gripper are left as they are (std = 0).
    deviation = np.array([0.0 if not np.isfinite(k) or k == 0 else 1 / k for k in scale])
    normalisation = Normalisation("mean_std", tuple(-shift * deviation), tuple(deviation))
    source = replace(view.source, name=f"{view.source.name}, normalised", normalisation=normalisation)
    words = f"multiples {np.array2string(scale[:6], precision=1)} of the recorded displacements, plus constants "
    words += f"{np.array2string(shift[:6], precision=2)}; they explain {worst:.0%} of every number"
    says = "numbers look normalised, each by a factor and an offset of its own (estimated from the poses)"
    return Finding("normalised", says, "strong", (words,), source)


def _beyond_one(view: View) -> bool:
    """Whether numbers leave -1..1, which normalised ones cannot."""
    return bool(np.quantile(np.abs(np.concatenate([rows[:, :6] for rows in view.actions])), 0.995) > 1.05)


def _ratio_words(found: Sizes, against: str) -> str:
    parts = []
    for what, ratio in (("translation", found.translation), ("rotation", found.rotation)):
        parts.append(f"{what} {ratio:.3g} times" if ratio is not None else f"{what} too little to tell")
    return f"{' and '.join(parts)} {against}"


def check_gripper_range(view: View) -> Outcome:
    opening = np.concatenate([rows[:, 6] for rows in view.actions])
    low, high = (float(q) for q in np.quantile(opening, [0.005, 0.995]))
    if low >= -0.25 and high <= 1.25 and not (high < 0.2 and high - low > 0.005 and low < 0.5 * high):
        return None
    numbers = np.concatenate([rows[:, -1] for rows in view.written])
    least, most = (float(q) for q in np.quantile(numbers, [0.005, 0.995]))
    if least == most:
        return Check("gripper range", "cannot tell", f"the gripper number never changes ({least:g})")
    up = view.source.gripper_open > view.source.gripper_closed
    ends = (most, least) if up else (least, most)
    declared = f"{view.source.gripper_closed:g} (closed) to {view.source.gripper_open:g} (open)"
    says = f"gripper numbers run from {least:.3g} to {most:.3g}, declared are {declared}"
    ends = tuple(round(end, 4) for end in ends)  # type: ignore[assignment]
    source = replace(
        view.source, name=f"{view.source.name}, gripper-range", gripper_open=ends[0], gripper_closed=ends[1]
    )
    return Finding("gripper-range", says, "strong", (), source)


def check_rate(view: View) -> Outcome:
    if view.fps is not None:
        ratio = view.fps / view.target.rate_hz
        if ratio > 1.5 or ratio < 1 / 1.5:
            rate = replace(view.source, name=f"{view.source.name}, {view.fps:g} Hz", rate_hz=view.fps)
            if view.source.rate_hz == view.fps:
                return Check(
                    "rate", "ok", f"declared at {view.fps:g} Hz, to be resampled to {view.target.rate_hz:g} Hz"
                )
            says = f"{view.fps:g} Hz into a {view.target.rate_hz:g} Hz model"
            whole = abs(ratio - round(ratio)) < 0.05 * ratio or abs(1 / ratio - round(1 / ratio)) < 0.05 / ratio
            return Finding("rate", says, "strong", (f"the recording says {view.fps:g} Hz",), rate, mends=whole)
    if view.source.rate_hz != view.target.rate_hz:
        return Check(
            "rate", "ok", f"declared at {view.source.rate_hz:g} Hz, to be resampled to {view.target.rate_hz:g} Hz"
        )
    scores = rate_scores(view.actions)
    if len(scores) < 4:
        return Check("rate", "cannot tell", f"fewer than 4 episodes of {RATE_STEPS} steps and more")
    score = float(np.median(scores))
    draws = np.random.default_rng(0).integers(len(scores), size=(1000, len(scores)))
    high = float(np.quantile(np.median(scores[draws], axis=1), 0.975))
    words = (
        f"size and roughness of steps score {score:+.2f} (5 Hz recordings -0.4 to 0.9, below {RATE_LIMIT:g}: too fast)"
    )
    if score < RATE_LIMIT and high < RATE_LIMIT + 0.3:
        return _rate_finding(view, rate_factor(score), "moderate", (words,))
    return Check("rate", "ok" if score > RATE_LIMIT / 2 else "cannot tell", words)


def _rate_finding(view: View, k: int, strength: Strength, evidence: tuple[str, ...]) -> Finding:
    rate = view.target.rate_hz * k
    source = replace(view.source, name=f"{view.source.name}, {rate:g} Hz", rate_hz=rate)
    says = (
        f"about {rate:g} Hz into a {view.target.rate_hz:g} Hz model: steps are some {k} times too small and too smooth"
    )
    return Finding("rate", says, strength, evidence, source)
