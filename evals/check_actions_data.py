"""Checks recorded actions: against the poses that follow from them where poses are recorded, else by statistics alone.

Each check assumes one mismatch. When one is found the actions are read in the contract that it suggests and everything
is checked again, so that several mismatches together are found one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from wfm_sim.action_contract import CANONICAL, ActionContract
from wfm_sim.action_conversion import convert
from wfm_sim.errors import UserError
from wfm_sim.evals.check_actions_gripper import check_gripper
from wfm_sim.evals.check_actions_poses import check_alignment, check_frame, check_rotation
from wfm_sim.evals.check_actions_report import Check, Finding, Report, Strength
from wfm_sim.evals.check_actions_scale import (
    ROBOT_ARMS,
    Reference,
    sizes,
)
from wfm_sim.evals.check_actions_units import check_gripper_range, check_rate, check_scale
from wfm_sim.evals.check_actions_view import Array, Outcome, Recording, View

MAX_ROUNDS = 5


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
    for check in (
        _motion,
        _absolute,
        check_scale,
        check_gripper_range,
        check_alignment,
        check_frame,
        check_rotation,
        check_gripper,
        check_rate,
    ):
        outcome = check(view)
        if isinstance(outcome, Finding):
            return checks, outcome
        if outcome is not None:
            checks.append(outcome)
    return checks, None


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
        strength: Strength = "strong" if view.states is not None else "moderate"
        says = "absolute poses where displacements are expected"
        return Finding("absolute-poses", says, strength, (evidence,), source, mends=view.states is not None)
    return None


def _written_translation(rows: Array, source: ActionContract) -> Array:
    """What the translation numbers say read as a position in the base frame."""
    pose = replace(source, kind="absolute", rotation_rule="compose")
    plain = replace(CANONICAL, name="pose", kind="absolute", rate_hz=source.rate_hz)
    return convert(rows, pose, plain, np.zeros((len(rows), 6)))[:, :3].astype(np.float64)
