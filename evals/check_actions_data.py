"""Checks recorded actions: against the poses that follow from them where poses are recorded, else by statistics alone.

Each check assumes one mismatch. When one is found the actions are read in the contract that it suggests and everything
is checked again, so that several mismatches together are found one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from wfm_sim.action_contract import CANONICAL, ActionContract
from wfm_sim.action_conversion import convert
from wfm_sim.actions import actions_from_states
from wfm_sim.errors import UserError
from wfm_sim.evals.check_actions_report import Check, Finding, Report
from wfm_sim.evals.check_actions_scale import (
    CANDIDATES,
    RATE_FACTORS,
    RATE_LIMIT,
    RATE_STEPS,
    ROBOT_ARMS,
    Reference,
    Sizes,
    best_candidate,
    changed,
    looks_standardised,
    rate_factor,
    rate_scores,
    ratios_to_states,
    sizes,
)
from wfm_sim.evals.statistics import wilson

Array = NDArray[np.float64]
MAX_ROUNDS = 5


@dataclass(frozen=True)
class Recording:
    """One episode's actions [n, A] as written, and its canonical poses [n+1, 7] (None: not recorded)."""

    actions: Array
    states: Array | None = None


@dataclass(frozen=True)
class View:
    """Recordings read in one contract: canonical displacements (at the recording's own rate) and poses."""

    source: ActionContract
    written: list[Array]
    actions: list[Array]
    states: list[Array] | None
    fps: float | None
    target: ActionContract
    reference: Reference


def check_data(
    recordings: Sequence[Recording],
    target: ActionContract,
    declared: ActionContract = CANONICAL,
    *,
    fps: float | None = None,
    reference: Reference = ROBOT_ARMS,
    subject: str = "data",
) -> Report:
    """Compare recorded actions with a contract.

    Args:
        recordings: At least one with at least two actions. Poses count only when every recording has them.
        target: What the world model takes.
        declared: What the actions are said to be.
        fps: Steps per second as recorded, where that is known.
        reference: How fast the model's own data move.
        subject: For the report.

    Raises:
        UserError: no recordings, or numbers that are not finite.
    """
    usable = [r for r in recordings if len(r.actions) >= 2]
    if not usable:
        raise UserError(f"{subject}: no episode has two actions or more")
    if not all(np.isfinite(r.actions).all() for r in usable):
        raise UserError(f"{subject}: actions hold a value that is not finite")
    steps = sum(len(r.actions) for r in usable)
    posed = all(r.states is not None for r in usable)
    report = Report(subject, "data set", target, declared)
    report.examined = f"{len(usable)} episodes, {steps} actions, " + (
        "with the poses that followed" if posed else "without recorded poses: frame and rotation cannot be told"
    )
    wrong = sorted({r.actions.shape[1] for r in usable} - {declared.dim})
    if wrong or declared.is_joint or target.is_joint:
        return _other_kind(report, wrong)
    source = declared
    for _ in range(MAX_ROUNDS):
        view = _read(usable, source, fps, target, reference, posed)
        report.checks, finding = _first_mismatch(view)
        if finding is None or finding.code in report.codes:
            break
        report.findings.append(finding)
        if not finding.mends:
            break
        source = finding.source
    return report


def _other_kind(report: Report, wrong: list[int]) -> Report:
    declared, target = report.declared, report.target
    if wrong:
        says = f"{wrong[0]} numbers per action, {declared.name!r} has {declared.dim}"
    elif (declared.kind, declared.dim) != (target.kind, target.dim):
        says = f"{declared.summary()}, where the model takes {target.summary()}"
    else:
        report.checks = [Check("kind", "cannot tell", "joint numbers of the same kind; units are not checked here")]
        return report
    report.findings = [Finding("dimension", says, "strong", (), declared, mends=False)]
    return report


def _read(
    recordings: Sequence[Recording],
    source: ActionContract,
    fps: float | None,
    target: ActionContract,
    reference: Reference,
    posed: bool,
) -> View:
    plain = replace(CANONICAL, rate_hz=source.rate_hz)
    states = [np.asarray(r.states, dtype=np.float64) for r in recordings] if posed else None
    starts = [s[:-1] for s in states] if states is not None else [None] * len(recordings)
    written = [np.asarray(r.actions, dtype=np.float64) for r in recordings]
    actions = [
        convert(rows, source, plain, pose).astype(np.float64) for rows, pose in zip(written, starts, strict=True)
    ]
    slower = target.rate_hz / source.rate_hz  # the reference is of the target's rate
    fitting = replace(reference, translation=reference.translation * slower, rotation=reference.rotation * slower)
    return View(source, written, actions, states, fps, target, fitting)


def _first_mismatch(view: View) -> tuple[list[Check], Finding | None]:
    """All checks up to the first mismatch, in an order in which each may rely on those before."""
    checks: list[Check] = []
    for check in (_motion, _absolute, _scale, _gripper_range, _alignment, _frame, _rotation, _gripper, _rate):
        outcome = check(view)
        if isinstance(outcome, Finding):
            return checks, outcome
        if outcome is not None:
            checks.append(outcome)
    return checks, None


Outcome = Check | Finding | None


def _motion(view: View) -> Outcome:
    found = sizes(view.actions, view.reference)
    if found.translation is None and found.rotation is None:
        says = "near-zero motion: no action moves the arm"
        evidence = f"fastest steps {found.fast_translation:.2g} m and {found.fast_rotation:.2g} rad"
        return Finding("near-zero-motion", says, "strong", (evidence,), view.source, mends=False)
    return None


def _absolute(view: View) -> Outcome:
    if view.source.kind != "delta":
        return None
    numbers = np.concatenate([rows[:, :3] for rows in view.actions])
    size = float(np.median(np.linalg.norm(numbers, axis=1)))
    if view.states is not None:
        seen = [
            np.linalg.norm(_written_translation(rows, view.source) - s[1:, :3], axis=1)
            for rows, s in zip(view.written, view.states, strict=True)
        ]
        off = float(np.median(np.concatenate(seen)))
        evidence = f"the numbers are {off * 1000:.0f} mm from the next recorded position; as steps they would be "
        evidence += f"{size * 1000:.0f} mm long"
    else:
        off = float(
            np.median(np.concatenate([np.linalg.norm(np.diff(rows[:, :3], axis=0), axis=1) for rows in view.actions]))
        )
        evidence = f"successive numbers differ by {off * 1000:.0f} mm, while each is {size * 1000:.0f} mm from zero"
    if size > 0.1 and off < 0.06 and off < 0.3 * size:
        source = replace(
            view.source, name=f"{view.source.name}, absolute-poses", kind="absolute", rotation_rule="compose"
        )
        strength = "strong" if view.states is not None else "moderate"
        says = "absolute poses where displacements are expected"
        return Finding("absolute-poses", says, strength, (evidence,), source, mends=view.states is not None)
    return None


def _written_translation(rows: Array, source: ActionContract) -> Array:
    """What the translation numbers say read as a position in the base frame."""
    pose = replace(source, kind="absolute", rotation_rule="compose")
    plain = replace(CANONICAL, name="pose", kind="absolute", rate_hz=source.rate_hz)
    return convert(rows, pose, plain, np.zeros((len(rows), 6)))[:, :3].astype(np.float64)


def _scale(view: View) -> Outcome:
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
    if best.code and gain > 4:
        if misfit > 3:
            says = "numbers of another size, by no factor that is known"
            return Finding("unknown-scale", says, "moderate", (evidence,), view.source, mends=False)
        if best.code == "normalised" and looks_standardised(view.actions):
            says = "numbers look normalised by mean and standard deviation; declare the contract with its statistics"
            return Finding("normalised", says, "strong", (evidence,), view.source, mends=False)
        strength = "strong" if by_states or gain > 8 else "moderate"
        return Finding(best.code, best.says, strength, (evidence,), changed(view.source, best))
    if not best.code and misfit > 4:
        return Finding(
            "unknown-scale",
            "numbers of another size, by no factor that is known",
            "moderate",
            (evidence,),
            view.source,
            False,
        )
    return Check("size", "ok", evidence)


def _beyond_one(view: View) -> bool:
    """Whether numbers leave -1..1, which normalised ones cannot."""
    return bool(np.quantile(np.abs(np.concatenate([rows[:, :6] for rows in view.actions])), 0.995) > 1.05)


def _ratio_words(found: Sizes, against: str) -> str:
    parts = []
    for what, ratio in (("translation", found.translation), ("rotation", found.rotation)):
        parts.append(f"{what} {ratio:.3g} times" if ratio is not None else f"{what} too little to tell")
    return f"{' and '.join(parts)} {against}"


def _gripper_range(view: View) -> Outcome:
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


def _agreement(predicted: Sequence[Array], seen: Sequence[Array]) -> tuple[float, Array]:
    """How much of what was seen is explained by a multiple of what was predicted: uncentred R^2, and [E, 3] sums."""
    sums = np.array([[(p * s).sum(), (p * p).sum(), (s * s).sum()] for p, s in zip(predicted, seen, strict=True)])
    return _r_squared(sums.sum(axis=0)), sums


def _r_squared(sums: Array) -> float:
    product, power, seen = sums
    return float(np.sign(product) * product**2 / max(power * seen, 1e-30))


def _gain(claimed: Array, other: Array) -> tuple[float, float]:
    """R^2 of the other minus that of the claimed, and the lower end of its 95 % interval over episodes (bootstrap)."""
    rng = np.random.default_rng(0)
    draws = rng.integers(len(claimed), size=(1000, len(claimed)))
    samples = [_r_squared(other[rows].sum(axis=0)) - _r_squared(claimed[rows].sum(axis=0)) for rows in draws]
    return _r_squared(other.sum(0)) - _r_squared(claimed.sum(0)), float(np.quantile(samples, 0.025))


def _displacements(view: View) -> tuple[list[Array], list[Array]]:
    """Base-frame displacements as the actions claim and as the poses show, each a list of [n, 3]."""
    assert view.states is not None
    told = [
        Rotation.from_euler("xyz", s[:-1, 3:6]).apply(rows[:, :3])
        for rows, s in zip(view.actions, view.states, strict=True)
    ]
    return told, [np.diff(s[:, :3], axis=0) for s in view.states]


def _alignment(view: View) -> Outcome:
    """Do actions lead from their own pose to the next one?"""
    if view.states is None or view.source.kind != "delta" or min(len(a) for a in view.actions) < 4:
        return None
    told, seen = _displacements(view)
    by_lag = {
        "the step before": _agreement([t[1:] for t in told], [s[:-1] for s in seen])[0],
        "their own step": _agreement(told, seen)[0],
        "the step after": _agreement([t[:-1] for t in told], [s[1:] for s in seen])[0],
    }
    best = max(by_lag, key=lambda name: by_lag[name])
    words = ", ".join(f"{name} {value:.2f}" for name, value in by_lag.items())
    if by_lag[best] > 0.8 and by_lag["their own step"] < 0.55 * by_lag[best]:
        says = f"shifted by one: the actions explain {best}, not their own"
        return Finding("shifted", says, "strong", (f"R^2 with {words}",), view.source, mends=False)
    return None


def _frame(view: View) -> Outcome:
    if view.states is None:
        return Check("frame", "cannot tell", "no recorded poses")
    if view.source.kind != "delta":
        return None
    told, seen = _displacements(view)
    turns = [Rotation.from_euler("xyz", s[:-1, 3:6]) for s in view.states]
    if view.source.frame == "gripper":
        other, name = [turn.inv().apply(t) for turn, t in zip(turns, told, strict=True)], "base"
    else:
        other, name = [turn.apply(t) for turn, t in zip(turns, told, strict=True)], "gripper"
    claimed_fit, claimed = _agreement(told, seen)
    other_fit, others = _agreement(other, seen)
    gain, low = _gain(claimed, others)
    angle = float(np.rad2deg(np.median(np.concatenate([turn.magnitude() for turn in turns]))))
    words = (
        f"read in the {view.source.frame} frame the actions explain {claimed_fit:.0%} of the recorded displacements, "
    )
    words += f"in the {name} frame {other_fit:.0%} (gripper turned by {angle:.0f} degrees, median)"
    if max(claimed_fit, other_fit) < 0.3:
        return Check("frame", "cannot tell", words)
    if gain > 0.02 and low > 0:
        source = replace(view.source, name=f"{view.source.name}, {name}-frame", frame=name, rotation_rule="compose")
        strength = "strong" if gain > 0.05 and low > 0.02 else "moderate"
        return Finding(f"{name}-frame", f"displacements look like {name} frame", strength, (words,), source)
    backwards, _ = _gain(others, claimed)
    if backwards > 0.01:
        return Check("frame", "ok", words)
    return Check("frame", "cannot tell", f"the gripper hardly turns, so both frames agree; {words}")


def _rotation(view: View) -> Outcome:
    if view.states is None:
        return Check("rotation", "cannot tell", "no recorded poses")
    if view.source.kind != "delta" or view.source.rotation not in ("rpy", "ypr"):
        return None
    seen = [actions_from_states(s)[:, 3:6].astype(np.float64) for s in view.states]
    if np.sqrt(np.mean(np.concatenate(seen) ** 2)) < 1e-3:
        return Check("rotation", "cannot tell", "the recorded poses hardly turn")
    fits = {}
    for code, option in rotation_options(view.source).items():
        plain = replace(CANONICAL, rate_hz=option.rate_hz)
        read = [
            convert(rows, option, plain, s[:-1])[:, 3:6].astype(np.float64)
            for rows, s in zip(view.written, view.states, strict=True)
        ]
        fits[code] = _agreement(read, seen)
    best = max(fits, key=lambda code: fits[code][0])
    words = f"read as declared the rotations explain {fits[''][0]:.0%} of the recorded turns"
    if best and fits[best][0] > 0.4:
        gain, low = _gain(fits[""][1], fits[best][1])
        if gain > 0.2 and low > 0.1:
            words += f", {ROTATION_WORDS[best]} {fits[best][0]:.0%}"
            source = rotation_options(view.source)[best]
            return Finding(best, f"rotations look written {ROTATION_WORDS[best]}", "strong", (words,), source)
    return Check("rotation", "ok" if fits[""][0] > 0.3 else "cannot tell", words)


ROTATION_WORDS = {
    "rotation-sign": "with the opposite sign",
    "rotation-order": "in the order yaw, pitch, roll",
    "rotation-order-and-sign": "in the order yaw, pitch, roll and with the opposite sign",
}


def rotation_options(source: ActionContract) -> dict[str, ActionContract]:
    """The ways in which three angles are commonly mixed up: code -> the contract they would be written in."""
    order = "ypr" if source.rotation == "rpy" else "rpy"
    changes: dict[str, dict[str, object]] = {
        "": {},
        "rotation-sign": {"rotation_scale": -source.rotation_scale},
        "rotation-order": {"rotation": order},
        "rotation-order-and-sign": {"rotation": order, "rotation_scale": -source.rotation_scale},
    }
    return {
        code: replace(source, **({"name": f"{source.name}, {code}", **change} if code else {}))  # type: ignore[arg-type]
        for code, change in changes.items()
    }


def inverted_gripper(source: ActionContract) -> ActionContract:
    """`source` with open and closed exchanged."""
    name = f"{source.name}, gripper-inverted"
    return replace(source, name=name, gripper_open=source.gripper_closed, gripper_closed=source.gripper_open)


def _gripper(view: View) -> Outcome:
    says = "gripper inverted: open and closed are exchanged"
    if view.states is not None and view.states[0].shape[1] >= 7:
        told = [rows[:, 6] - 0.5 for rows in view.actions]
        seen = [s[1:, 6] for s in view.states]
        spread = float(np.std(np.concatenate(seen))), float(np.std(np.concatenate(told)))
        if min(spread) > 0.05:
            correlation, low, high = _correlation(told, seen)
            words = f"command and recorded gripper correlate at {correlation:+.2f} [{low:+.2f}, {high:+.2f}]"
            if correlation < -0.3 and high < 0:
                return Finding("gripper-inverted", says, "strong", (words,), inverted_gripper(view.source))
            if correlation > 0.3 and low > 0:
                return Check("gripper", "ok", words)
    closes, opens = first_events([rows[:, 6] for rows in view.actions])
    share = wilson(closes, closes + opens)
    words = f"the first gripper event closes in {closes} of {closes + opens} episodes that have one"
    if share.value is None or share.low is None or share.high is None:
        return Check("gripper", "cannot tell", "the gripper never changes")
    if share.high < 0.35:
        return Finding("gripper-inverted", says, "moderate", (words,), inverted_gripper(view.source))
    return Check("gripper", "ok" if share.low > 0.5 else "cannot tell", words)


def first_events(openings: Sequence[Array]) -> tuple[int, int]:
    """In how many episodes the first change of the gripper closes it, and in how many it opens it. A robot that begins
    with an open gripper and grasps something closes first."""
    closes = opens = 0
    for opening in openings:
        is_open = opening > 0.5
        change = np.flatnonzero(is_open[1:] != is_open[:-1])
        if len(change):
            closes += bool(is_open[change[0]])
            opens += not is_open[change[0]]
    return closes, opens


def _correlation(told: Sequence[Array], seen: Sequence[Array]) -> tuple[float, float, float]:
    """Pearson's r of pooled values with its bootstrap interval over episodes."""

    def pooled(rows: Sequence[int] | Array) -> float:
        a, b = np.concatenate([told[i] for i in rows]), np.concatenate([seen[i] for i in rows])
        return float(np.corrcoef(a, b)[0, 1]) if min(a.std(), b.std()) > 1e-6 else 0.0

    rng = np.random.default_rng(0)
    samples = [pooled(rng.integers(len(told), size=len(told))) for _ in range(300)]
    low, high = (float(q) for q in np.quantile(samples, [0.025, 0.975]))
    return pooled(range(len(told))), low, high


def _rate(view: View) -> Outcome:
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


def _rate_finding(view: View, k: int, strength: str, evidence: tuple[str, ...]) -> Finding:
    rate = view.target.rate_hz * k
    source = replace(view.source, name=f"{view.source.name}, {rate:g} Hz", rate_hz=rate)
    says = (
        f"about {rate:g} Hz into a {view.target.rate_hz:g} Hz model: steps are some {k} times too small and too smooth"
    )
    return Finding("rate", says, strength, evidence, source)  # type: ignore[arg-type]
