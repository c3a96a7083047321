"""Injects every action mismatch that `check-actions` can name, and counts how often it is named: the table of
docs/action_contract.md.

    python benchmarks/action_mismatches.py                          # 20 seeds, data sets and policies
    python benchmarks/action_mismatches.py --seeds 2 --kinds data

A data set is 24 episodes of the twin by experts (exact, noisy, flawed) and random play, written in a wrong contract and
said to be canonical; a policy is a scripted expert whose noise the seed draws, likewise. Counted are the cases in which
exactly the injected mismatch is found and nothing else.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from wfm_sim.action_contract import CANONICAL, ActionContract
from wfm_sim.action_conversion import convert
from wfm_sim.actions import actions_from_states
from wfm_sim.envs.twin import TabletopMuJoCoEnv
from wfm_sim.evals.check_actions_data import check_data
from wfm_sim.evals.check_actions_policy import check_policy
from wfm_sim.evals.check_actions_probes import BlindTwin
from wfm_sim.evals.check_actions_report import Report
from wfm_sim.evals.check_actions_view import Recording
from wfm_sim.evals.contestants import make_policy
from wfm_sim.evals.statistics import wilson
from wfm_sim.policies.base import Policy, batch_of_one
from wfm_sim.policies.scripted import ScriptedExpert
from wfm_sim.policies.simple import RandomPolicy
from wfm_sim.policies.wrappers import Converted

# What is injected -> (the contract in which actions are really written, what should be found).
MISMATCHES: dict[str, tuple[ActionContract, str]] = {
    "none": (CANONICAL, ""),
    "gripper inverted": (replace(CANONICAL, gripper_open=0.0, gripper_closed=1.0), "gripper-inverted"),
    "base frame": (replace(CANONICAL, frame="base"), "base-frame"),
    "x20 missing": (replace(CANONICAL, translation_scale=0.05, rotation_scale=0.05), "x20-missing"),
    "x20 twice": (replace(CANONICAL, translation_scale=20.0, rotation_scale=20.0), "x20-twice"),
    "15 Hz into 5 Hz": (replace(CANONICAL, rate_hz=15.0), "rate"),
    "rotation order": (replace(CANONICAL, rotation="ypr"), "rotation-order"),
    "rotation sign": (replace(CANONICAL, rotation_scale=-1.0), "rotation-sign"),
    "absolute poses": (replace(CANONICAL, kind="absolute"), "absolute-poses"),
    "millimetres": (replace(CANONICAL, translation_unit="mm"), "millimetres"),
}
# Without recorded poses these cannot be told: the checker has to say so, and raise no alarm.
NEEDS_POSES = ("base frame", "rotation order", "rotation sign")
NOISES = (0.0, 0.05, 0.1, 0.2)  # of the experts that mismatches are injected into
# Policies that are as they should be and must raise no alarm, the bad ones above all.
CORRECT = (
    "random",
    "expert",
    "expert-noise0.2",
    "expert-noise0.4",
    "expert-noise0.6",
    "expert-noise0.8",
    "expert-flawed",
    "expert-slow0.5",
    "bc-state-300",
    "bc-state-1000",
    "bc-state-4000",
)
FIRST_SEED = 22_000_000
STEPS = 30


def record(seed: int, episodes: int, env: TabletopMuJoCoEnv) -> list[Recording]:
    """Episodes of a mixture of policies: canonical actions [n, 7] and measured poses [n+1, 7]."""
    rng = np.random.default_rng([seed, 3])
    found = []
    for index in range(episodes):
        scene = FIRST_SEED + 1000 * seed + index
        observation, info = env.reset(seed=scene)
        kind = ("expert", "noisy", "noisy", "random", "flawed")[index % 5]
        noise = float(rng.uniform(0.05, 0.5)) if kind == "noisy" else 0.0
        flaw = "random" if kind == "flawed" else None
        policy: Policy = RandomPolicy() if kind == "random" else ScriptedExpert(noise, flaw)
        policy.reset(batch_of_one(info), [scene])
        actions, poses = [], [info["measured_pose"]]
        for _ in range(STEPS):
            action = policy.act(batch_of_one(observation))[0]
            observation, _, _, _, info = env.step(action)
            actions.append(np.clip(action, env.action_space.low, env.action_space.high))
            poses.append(info["measured_pose"])
        found.append(Recording(np.stack(actions).astype(np.float64), np.stack(poses).astype(np.float64)))
    return found


def misread(recordings: Sequence[Recording], contract: ActionContract) -> list[Recording]:
    """The same episodes written in `contract`.

    At a higher rate the poses are interpolated by cubic splines, as a robot moves, and the actions follow from them:
    nothing of the slower rate's steps is left to give it away.
    """
    if contract.rate_hz != CANONICAL.rate_hz:
        return [_faster(r, round(contract.rate_hz / CANONICAL.rate_hz)) for r in recordings]
    return [Recording(_written(r, contract), r.states) for r in recordings]


def _written(recording: Recording, contract: ActionContract) -> np.ndarray:
    assert recording.states is not None
    return convert(recording.actions, CANONICAL, contract, recording.states[:-1]).astype(np.float64)


def _faster(recording: Recording, k: int) -> Recording:
    from scipy.interpolate import CubicSpline
    from scipy.spatial.transform import Rotation, RotationSpline

    states = recording.states
    assert states is not None
    times = np.arange(len(states))
    between = np.linspace(0, len(states) - 1, (len(states) - 1) * k + 1)
    angles = RotationSpline(times, Rotation.from_euler("xyz", states[:, 3:6]))(between).as_euler("xyz")
    gripper = np.interp(between, times, states[:, 6])
    poses = np.concatenate([CubicSpline(times, states[:, :3])(between), angles, gripper[:, None]], axis=1)
    actions = actions_from_states(poses, gripper=np.repeat(recording.actions[:, 6], k))
    return Recording(actions.astype(np.float64), poses)


@dataclass(frozen=True)
class Case:
    """One thing to check: its kind, what was injected, what should be found ('' for nothing), and how to check it."""

    kind: str
    injected: str
    expected: str
    check: Callable[[], Report]


def data_cases(options: argparse.Namespace) -> Iterator[Case]:
    """Every seed and mismatch, with poses and without."""
    env = BlindTwin(terminate_on_success=False, max_episode_steps=10_000)
    for seed in range(options.first, options.first + options.seeds):
        recordings = record(seed, options.recordings, env)
        for name, (contract, expected) in MISMATCHES.items():
            wrong = misread(recordings, contract)
            yield Case("data set", name, expected, partial(check_data, wrong, CANONICAL, fps=5.0))
            bare = [Recording(r.actions) for r in wrong]
            blind = "" if name in NEEDS_POSES else expected
            yield Case("without poses", name, blind, partial(check_data, bare, CANONICAL, fps=5.0))
    env.close()


def policy_cases(options: argparse.Namespace) -> Iterator[Case]:
    """Every seed and mismatch, in a scripted expert."""
    sizes = {"episodes": options.episodes, "scenes": options.scenes, "twin": BlindTwin()}
    for seed in range(options.first, options.first + options.seeds):
        noise = NOISES[seed % len(NOISES)]
        for name, (contract, expected) in MISMATCHES.items():
            policy = Converted(ScriptedExpert(noise), CANONICAL, contract)
            yield Case("policy", name, expected, partial(check_policy, policy, seed=seed, **sizes))


def correct_cases(options: argparse.Namespace) -> Iterator[Case]:
    """Policies without a mismatch, good and bad ones."""
    sizes = {"episodes": options.episodes, "scenes": options.scenes, "twin": BlindTwin()}
    for seed in range(options.first, options.first + options.seeds):
        for name in CORRECT:
            yield Case("correct policy", name, "", partial(check_policy, make_policy(name), seed=seed, **sizes))


CASES = {"data": data_cases, "policy": policy_cases, "correct": correct_cases}


def main() -> None:
    """Print one line per kind and mismatch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0, help="first seed; parts may run side by side with one --out")
    parser.add_argument("--recordings", type=int, default=24, help="episodes per data set")
    parser.add_argument("--episodes", type=int, default=6, help="rollouts per policy; check-actions itself takes 12")
    parser.add_argument("--scenes", type=int, default=6, help="scenes of the probes per policy, likewise")
    parser.add_argument("--kinds", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--out", type=Path, help="JSON lines, one per case, written as it ends; done ones are skipped")
    arguments = parser.parse_args()
    done: dict[str, dict] = {}
    if arguments.out is not None and arguments.out.is_file():
        done = {row["case"]: row for row in map(json.loads, arguments.out.read_text().splitlines())}
    rows: list[dict] = []
    began = time.monotonic()
    for chosen in arguments.kinds:
        counts: Counter[tuple[str, str]] = Counter()
        for case in CASES[chosen](arguments):
            name = f"{case.kind}/{case.injected}/{arguments.first + counts[case.kind, case.injected]}"
            counts[case.kind, case.injected] += 1
            if name in done:
                rows.append(done[name])
                continue
            row = {"case": name, "kind": case.kind, "injected": case.injected, "expected": case.expected}
            rows.append({**row, "found": case.check().codes})
            if arguments.out is not None:
                arguments.out.parent.mkdir(parents=True, exist_ok=True)
                with arguments.out.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
    print_table(rows)
    print(f"{len(rows)} cases in {(time.monotonic() - began) / 60:.1f} minutes")


def print_table(rows: Sequence[dict]) -> None:
    """Share named with its Wilson interval, and what else was found."""
    for kind, name in dict.fromkeys((row["kind"], row["injected"]) for row in rows):
        mine = [row for row in rows if (row["kind"], row["injected"]) == (kind, name)]
        expected = mine[0]["expected"]
        named = [row["found"] == ([expected] if expected else []) for row in mine]
        other = sorted(
            {"+".join(row["found"]) or "nothing" for row, right in zip(mine, named, strict=True) if not right}
        )
        share = wilson(sum(named), len(named))
        print(
            f"{kind:15s} {name:18s} {expected or 'no alarm':18s} {sum(named):3d} of {len(named):3d}  "
            f"{share.format(0, 100, '%'):18s}" + (f"  else: {', '.join(other)}" if other else ""),
            flush=True,
        )


if __name__ == "__main__":
    main()
