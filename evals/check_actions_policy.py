"""Checks a policy by what it does in the physics twin: sizes of its actions, designed experiments, mended rollouts.

Each check assumes one mismatch. When one is found the policy is wrapped in what mends it (`Converted`) and everything
is checked again, so that several mismatches together are found one after the other, and a wrong guess shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wfm_sim.action_contract import CANONICAL, ActionContract
from wfm_sim.envs.twin import TabletopMuJoCoEnv
from wfm_sim.errors import UserError
from wfm_sim.evals.check_actions_gripper import first_events, inverted_gripper
from wfm_sim.evals.check_actions_poses import ROTATION_WORDS, rotation_options
from wfm_sim.evals.check_actions_probes import estimate_frame, estimate_turns, make_twin, probe, reaction
from wfm_sim.evals.check_actions_report import Check, Finding, Report, Strength
from wfm_sim.evals.check_actions_rollouts import Bench, Rollout, run
from wfm_sim.evals.check_actions_scale import (
    CANDIDATES,
    FAST,
    RATE_FACTORS,
    TABLETOP,
    Reference,
    best_candidate,
    changed,
    sizes,
)
from wfm_sim.evals.statistics import paired_bootstrap, wilson
from wfm_sim.policies.base import Policy
from wfm_sim.policies.wrappers import Converted

Array = NDArray[np.float64]
FIRST_SEED = 21_000_000  # of no training set and no other eval
MAX_ROUNDS = 5
# Upper quartile of step lengths over the reference, below which a higher rate is suspected: experts and random play
# have 0.9 to 1.2, a third of it at 15 Hz; an expert of half the usual speed has 0.5 and is left alone.
RATE_RATIO = 0.43
# A gripper-frame policy that has not learned to heed how its gripper is turned writes much the same numbers whatever
# the turn, as a base-frame policy does. Not wholly the same, though (stages of cloning: 70 % explained, base-frame
# experts with noise: 90, whose share of the turn is within 0.1 of 0), and it does not turn them the wrong way.
STEADY, NEARLY, BACKWARDS = 0.85, 0.1, -0.05
BEGINNING = 12  # steps; those of experts that succeed take 8 to 19


def check_policy(
    policy: Policy,
    declared: ActionContract = CANONICAL,
    *,
    episodes: int = 12,
    scenes: int = 12,
    seed: int = 0,
    reference: Reference = TABLETOP,
    twin: TabletopMuJoCoEnv | None = None,
) -> Report:
    """Let a policy act in the physics twin and compare its actions with the canonical contract.

    Args:
        policy: Its actions are read as `declared`.
        declared: What it is said to write.
        episodes: Rollouts, a third of each task.
        scenes: Of the designed experiments.
        seed: Another seed takes other scenes.
        reference: How fast the model's own data move.
        twin: Where it acts; left open. None: one of its own, which does not render where the policy does not look.

    Raises:
        UserError: too few episodes or scenes, or a contract that cannot be converted to canonical actions.
    """
    if episodes < 3 or scenes < 4:
        raise UserError(f"at least 3 episodes and 4 scenes are needed, not {episodes} and {scenes}")
    read = Converted(policy, declared)  # refuses what cannot be converted, before anything runs
    first = FIRST_SEED + 10_000 * seed
    env = make_twin(read) if twin is None else twin
    report = Report(policy.name, "policy", CANONICAL, declared)
    report.examined = f"{episodes} episodes and {10 * scenes} probes in the physics twin, scenes from {first}"
    bench = Bench(
        env,
        lambda source: Converted(policy, source),
        tuple(range(first, first + episodes)),
        tuple(range(first + 5000, first + 5000 + scenes)),
        reference,
        CANONICAL,
    )
    try:
        _check(bench, report)
    finally:
        if twin is None:
            env.close()
    return report


def _check(bench: Bench, report: Report) -> None:
    source, before = report.declared, None
    for _ in range(MAX_ROUNDS):
        rollouts = run(bench, source, bench.seeds)
        if before is not None:
            report.findings[-1] = _with_outcome(report.findings[-1], before, rollouts)
        report.checks, finding = _first_mismatch(bench, source, rollouts)
        if finding is None or finding.code in report.codes:
            return
        report.findings.append(finding)
        if not finding.mends:
            return
        source, before = finding.source, rollouts


def _with_outcome(finding: Finding, before: Sequence[Rollout], after: Sequence[Rollout]) -> Finding:
    """The finding with what mending it did to the outcome, on the same scenes."""
    gain = paired_bootstrap([r.progress for r in after], [r.progress for r in before])
    words = f"as written {_outcome(before)}; as mended {_outcome(after)}; progress {gain.format()} higher"
    return replace(finding, evidence=(*finding.evidence, words))


def _outcome(rollouts: Sequence[Rollout]) -> str:
    return f"{sum(r.success for r in rollouts)} of {len(rollouts)} episodes succeed"


def _first_mismatch(
    bench: Bench, source: ActionContract, rollouts: list[Rollout]
) -> tuple[list[Check], Finding | None]:
    checks: list[Check] = []
    outcome: Check | Finding | None
    for check in (_motion, _absolute, _scale, _gripper_range, _frame_and_rotation, _gripper, _rate):
        results = check(bench, source, rollouts)
        for outcome in results:
            if isinstance(outcome, Finding):
                return checks, outcome
            checks.append(outcome)
    return checks, None


Outcomes = Sequence[Check | Finding]


def _motion(bench: Bench, source: ActionContract, rollouts: list[Rollout]) -> Outcomes:
    actions = [r.actions for r in rollouts]
    found = sizes(actions, bench.reference)
    if found.translation is None and found.rotation is None:
        evidence = f"fastest steps {found.fast_translation:.2g} m and {found.fast_rotation:.2g} rad"
        says = "near-zero motion: no action moves the arm"
        return [Finding("near-zero-motion", says, "strong", (evidence,), source, mends=False)]
    return []


def _absolute(bench: Bench, source: ActionContract, rollouts: list[Rollout]) -> Outcomes:
    """Numbers that stay near the arm's own pose, instead of near zero."""
    if source.kind != "delta":
        return []
    pose = replace(source, name=f"{source.name}, absolute-poses", kind="absolute", rotation_rule="compose")
    written = np.concatenate([r.actions[:, :3] for r in rollouts])
    size = float(np.median(np.linalg.norm(written, axis=1)))
    if size < 0.1:
        return []
    as_poses = run_lengths(bench, pose, bench.seeds[:3])
    if as_poses < 0.08 and as_poses < 0.4 * size:
        evidence = f"read as steps the numbers are {size * 1000:.0f} mm long, read as poses they lie "
        evidence += f"{as_poses * 1000:.0f} mm from the arm (medians)"
        return [
            Finding("absolute-poses", "absolute poses where displacements are expected", "strong", (evidence,), pose)
        ]
    return []


def run_lengths(bench: Bench, source: ActionContract, seeds: Sequence[int]) -> float:
    """The median length of the steps that a policy read in `source` takes."""
    rollouts = run(bench, source, seeds)
    return float(np.median(np.concatenate([np.linalg.norm(r.actions[:, :3], axis=1) for r in rollouts])))


def _scale(bench: Bench, source: ActionContract, rollouts: list[Rollout]) -> Outcomes:
    # How an episode begins: what follows shows what a wrong unit did to it, such as an arm that never arrives.
    found = sizes([r.actions[:BEGINNING] for r in rollouts], bench.reference)
    words = (
        f"fast steps {found.fast_translation * 1000:.3g} mm and {found.fast_rotation:.3g} rad; {bench.reference.name}: "
    )
    words += f"{bench.reference.translation * 1000:.0f} mm and {bench.reference.rotation:.2f} rad"
    best, gain, misfit = best_candidate(found, (0.45, 0.7))
    numbers = np.abs(np.concatenate([r.actions[:, :6] for r in rollouts]))
    if best.code == "normalised" and np.quantile(numbers, 0.995) > 1.05:
        best = next(c for c in CANDIDATES if c.code == "x20-twice")
    if best.code and gain > 4:
        if misfit > 3:
            says = "numbers of another size, by no factor that is known"
            return [Finding("unknown-scale", says, "moderate", (words,), source, mends=False)]
        strength: Strength = "strong" if gain > 8 else "moderate"
        return [Finding(best.code, best.says, strength, (words,), changed(source, best))]
    return [Check("size", "ok", words)]


def _gripper_range(bench: Bench, source: ActionContract, rollouts: list[Rollout]) -> Outcomes:
    opening = np.concatenate([r.actions[:, 6] for r in rollouts])
    low, high = (float(q) for q in np.quantile(opening, [0.005, 0.995]))
    if low >= -0.25 and high <= 1.25:
        return []
    span = source.gripper_open - source.gripper_closed
    ends = [round(source.gripper_closed + value * span, 3) for value in (low, high)]
    says = (
        f"gripper numbers run from {min(ends):g} to {max(ends):g}, declared are {source.gripper_closed:g} (closed) to "
    )
    says += f"{source.gripper_open:g} (open)"
    wider = replace(source, name=f"{source.name}, gripper-range", gripper_closed=ends[0], gripper_open=ends[1])
    return [Finding("gripper-range", says, "strong", (), wider)]


def _frame_and_rotation(bench: Bench, source: ActionContract, rollouts: list[Rollout]) -> Outcomes:
    if source.kind != "delta":
        return []
    answers = probe(bench.env, bench.make(source), bench.probes)
    results: list[Check | Finding] = []
    turns = estimate_turns(answers)
    words = f"corrections of orientation agree with the declared angles at a cosine of {turns.cosines['']:+.2f}"
    if source.rotation not in ("rpy", "ypr") or turns.size < 0.1:
        results.append(Check("rotation", "cannot tell", "the policy does not correct its orientation"))
    elif turns.best and turns.cosines[turns.best] > 0.45 and turns.gain > 0.3 and turns.low > 0.15:
        words += f", read {ROTATION_WORDS[turns.best]} at {turns.cosines[turns.best]:+.2f}"
        says = f"rotations look written {ROTATION_WORDS[turns.best]}"
        return [Finding(turns.best, says, "strong", (words,), rotation_options(source)[turns.best])]
    else:
        results.append(Check("rotation", "ok" if turns.cosines[""] > 0.45 else "cannot tell", words))
    frame = estimate_frame(answers)
    words = f"displacements turn with the gripper by {frame.value:.2f} [{frame.low:.2f}, {frame.high:.2f}] of its turn "
    words += "(1: gripper frame, 0: base frame)"
    # Read in the declared contract, a policy that is as declared turns with the gripper wholly.
    other = "base" if source.frame == "gripper" else "gripper"
    if reaction(answers) < 0.1:
        says = "the policy's displacements do not depend on where the gripper is"
        results.append(Check("frame", "cannot tell", says))
    elif frame.explained < 0.5 or frame.high - frame.low > 0.9:
        results.append(Check("frame", "cannot tell", f"{words}, explaining only {frame.explained:.0%}"))
    elif other == "base" and BACKWARDS < frame.high < 0.5 and (frame.explained < STEADY or frame.low > NEARLY):
        says = f"{words}, explaining only {frame.explained:.0%}: base frame, or a policy that does not heed its gripper"
        results.append(Check("frame", "cannot tell", says))
    elif other == "base" and frame.high < 0.5:
        changed_frame = replace(source, name=f"{source.name}, base-frame", frame="base", rotation_rule="compose")
        return [*results, Finding("base-frame", "deltas look like base frame", "strong", (words,), changed_frame)]
    elif other == "gripper" and frame.low > 1.2:
        changed_frame = replace(source, name=f"{source.name}, gripper-frame", frame="gripper", rotation_rule="compose")
        says = "deltas look like gripper frame, declared is the base frame"
        return [*results, Finding("gripper-frame", says, "strong", (words,), changed_frame)]
    else:
        results.append(Check("frame", "ok" if frame.low > 0.5 else "cannot tell", words))
    return results


GRASPS = ("pick", "place")


def _gripper(bench: Bench, source: ActionContract, rollouts: list[Rollout]) -> Outcomes:
    grasps = [r for r in rollouts if r.task in GRASPS]
    proven = wilson(sum(r.success for r in grasps), len(grasps))
    if proven.value is not None and proven.value >= 0.5:
        return [Check("gripper", "ok", f"{sum(r.success for r in grasps)} of {len(grasps)} blocks are grasped")]
    seeds = [seed for seed, r in zip(bench.seeds, rollouts, strict=True) if r.task in GRASPS]
    tasks = [r.task for r in grasps]
    exchanged = [
        run(bench, inverted_gripper(source), [seed], [task])[0] for seed, task in zip(seeds, tasks, strict=True)
    ]
    gain = paired_bootstrap([r.progress for r in exchanged], [r.progress for r in grasps])
    closes, opens = first_events([r.actions[:, 6] for r in grasps])
    words = f"with open and closed exchanged progress is {gain.format()} higher ({_outcome(grasps)}, exchanged "
    words += (
        f"{sum(r.success for r in exchanged)}); the first gripper event closes in {closes} of {closes + opens} episodes"
    )
    if gain.value is not None and gain.low is not None and gain.value > 0.15 and gain.low > 0.05:
        says = "gripper inverted: open and closed are exchanged"
        return [Finding("gripper-inverted", says, "strong", (words,), inverted_gripper(source))]
    better = gain.high is not None and gain.high < -0.05
    return [Check("gripper", "ok" if better else "cannot tell", words)]


def _rate(bench: Bench, source: ActionContract, rollouts: list[Rollout]) -> Outcomes:
    if source.rate_hz != bench.target.rate_hz:
        words = f"declared at {source.rate_hz:g} Hz, asked {source.rate_hz / bench.target.rate_hz:.3g} times per step"
        return [Check("rate", "ok", words)]
    # Not the fastest steps here: noise lengthens those, and a policy's own steps are much alike.
    lengths = np.concatenate([np.linalg.norm(r.actions[:, :3], axis=1) for r in rollouts])
    usual = float(np.quantile(lengths[lengths > 0.1 * np.quantile(lengths, FAST)], 0.75))
    ratio = usual / bench.reference.translation
    words = f"usual steps are {ratio:.2f} times those of {bench.reference.name}"
    if ratio > RATE_RATIO or ratio < 0.02:
        return [Check("rate", "ok" if ratio > RATE_RATIO else "cannot tell", words)]
    k = min(RATE_FACTORS, key=lambda factor: abs(np.log(ratio * factor)))
    rate = bench.target.rate_hz * k
    faster = replace(source, name=f"{source.name}, {rate:g} Hz", rate_hz=rate)
    mended = run(bench, faster, bench.seeds)
    gain = paired_bootstrap([r.pace for r in mended], [r.pace for r in rollouts])
    words += f"; asked {k} times per step, progress averaged over time is {gain.format()} higher"
    if gain.value is not None and gain.low is not None and gain.value > 0.05 and gain.low > 0:
        says = f"{rate:g} Hz into a {bench.target.rate_hz:g} Hz model (or a policy that means to be {k} times slower)"
        return [Finding("rate", says, "moderate", (words,), faster)]
    return [Check("rate", "cannot tell", words)]
