"""Checks of recorded actions against the poses that followed: step, frame and rotation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from wfm_sim.action_contract import CANONICAL, ActionContract, Frame
from wfm_sim.action_conversion import convert
from wfm_sim.actions import actions_from_states
from wfm_sim.evals.check_actions_report import Check, Finding, Strength
from wfm_sim.evals.check_actions_view import Array, Outcome, View


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


def check_alignment(view: View) -> Outcome:
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


def check_frame(view: View) -> Outcome:
    if view.states is None:
        return Check("frame", "cannot tell", "no recorded poses")
    if view.source.kind != "delta":
        return None
    told, seen = _displacements(view)
    turns = [Rotation.from_euler("xyz", s[:-1, 3:6]) for s in view.states]
    name: Frame
    if view.source.frame == "gripper":
        other, name = [turn.inv().apply(t) for turn, t in zip(turns, told, strict=True)], "base"
    else:
        other, name = [turn.apply(t) for turn, t in zip(turns, told, strict=True)], "gripper"
    claimed_fit, claimed = _agreement(told, seen)
    other_fit, others = _agreement(other, seen)
    gain, low = _gain(claimed, others)
    angle = float(np.rad2deg(np.median(np.concatenate([turn.magnitude() for turn in turns]))))
    words = (
        f"read in the {view.source.frame} frame the actions explain {claimed_fit:.0%} of the displacements recorded, "
    )
    words += f"in the {name} frame {other_fit:.0%} (gripper turned by {angle:.0f} degrees, median)"
    if max(claimed_fit, other_fit) < 0.3:
        return Check("frame", "cannot tell", words)
    if gain > 0.02 and low > 0:
        source = replace(view.source, name=f"{view.source.name}, {name}-frame", frame=name, rotation_rule="compose")
        strength: Strength = "strong" if gain > 0.05 and low > 0.02 else "moderate"
        return Finding(f"{name}-frame", f"displacements look like {name} frame", strength, (words,), source)
    backwards, _ = _gain(others, claimed)
    if backwards > 0.01:
        return Check("frame", "ok", words)
    return Check("frame", "cannot tell", f"the gripper hardly turns, so both frames agree; {words}")


def check_rotation(view: View) -> Outcome:
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
