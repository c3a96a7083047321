"""`wfm-sim check-actions`: does a policy, or a data set, write the actions that a world model takes?

    report = check_actions("expert", world_model="nano-tabletop")
    print("\\n".join(report.lines())); report.clean; report.codes; fix_code(report)

`check_data` and `check_policy` are for objects instead of names.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from wfm_sim.action_contract import CANONICAL, ActionContract, contract_of, load_contract
from wfm_sim.data import open_dataset
from wfm_sim.data.rlds import TFRecordBridge, UnpackedBridge
from wfm_sim.errors import UserError
from wfm_sim.evals.check_actions_data import check_data
from wfm_sim.evals.check_actions_model import check_model, has_twin
from wfm_sim.evals.check_actions_policy import check_policy
from wfm_sim.evals.check_actions_report import Report, fix_code
from wfm_sim.evals.check_actions_scale import ROBOT_ARMS
from wfm_sim.evals.check_actions_view import Recording
from wfm_sim.evals.loading import load_model
from wfm_sim.evals.policy_loading import make_policy
from wfm_sim.policies.base import Policy

__all__ = ["check_actions", "check_data", "check_policy", "fix_code"]


def check_actions(
    subject: str | Path,
    world_model: Any = "nano-tabletop",
    contract: str | Path | ActionContract | None = None,
    *,
    split: str | None = None,
    episodes: int | None = None,
    seed: int = 0,
    probe_model: bool = True,
) -> Report:
    """Check a policy or a data set against a world model's contract.

    Args:
        subject: A data set's folder; an .npz file (see `read_arrays`); a policy's name (evals/policy_loading.py);
            or 'module:name' or 'file.py:name' of something that returns a Policy when called.
        world_model: A shipped model's name, a path, or a model.
        contract: What the actions are said to be written in: a name, a JSON file, or a contract. None: what the policy
            or the data set says of itself, else canonical.
        split: Of a data set.
        episodes: How many to look at; None for 64 of a data set, 12 of a policy.
        seed: Chooses scenes and episodes.
        probe_model: Whether to command the arm in the world model too, where it has a twin.

    Raises:
        UserError: anything that cannot be found, read or converted.
    """
    if episodes is not None and episodes < 1:
        raise UserError(f"the number of episodes must be at least 1, not {episodes}")
    declared = load_contract(contract) if isinstance(contract, str | Path) else contract
    path = Path(subject).expanduser()
    is_data = path.is_dir() or path.suffix in (".npz", ".npy")
    # The cheap part of bad input first: loading a model takes seconds.
    policy = None if is_data else load_policy(str(subject))
    if path.suffix in (".npz", ".npy") and not path.is_file():
        raise UserError(f"{subject}: no such file")
    model = load_model(world_model)
    target = contract_of(model)
    if policy is None:
        report = _check_folder_or_file(path, target, declared, split, episodes or 64)
    else:
        if target.is_joint:
            raise UserError(
                f"policies are examined in the tabletop's physics twin, and {model.spec.name!r} is driven by "
                f"{target.summary()}; check a recording of the policy's actions (.npz) instead"
            )
        report = check_policy(policy, declared or contract_of(policy), episodes=max(episodes or 12, 3), seed=seed)
        report.subject = str(subject)
    if probe_model and has_twin(model):
        report.model_checks = check_model(model, seed=seed)
    return report


def load_policy(name: str) -> Policy:
    """A policy by name, or what 'module:name' or 'file.py:name' returns when called. UserError when there is none."""
    file, _, function = name.rpartition(":")
    if not file.endswith(".py"):
        return make_policy(name)
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"{file}: no such file")
    sys.path.insert(0, str(path.resolve().parent))
    try:
        return make_policy(f"{path.stem}:{function}")
    finally:
        sys.path.pop(0)


def _check_folder_or_file(
    path: Path, target: ActionContract, declared: ActionContract | None, split: str | None, episodes: int
) -> Report:
    recordings, fps, said = read_folder(path, split, episodes) if path.is_dir() else read_arrays(path)
    return check_data(recordings[:episodes], target, declared or said, fps=fps, reference=ROBOT_ARMS, subject=str(path))


def read_folder(path: Path, split: str | None, episodes: int) -> tuple[list[Recording], float | None, ActionContract]:
    """Recordings of a data set, evenly spread over it; frames per second; and what its actions are in.

    What a reader hands out is canonical. RLDS Bridge is read without recomputing displacements from the poses, which
    would agree with them whatever the file says.
    """
    dataset: Any = open_dataset(path, split)
    if isinstance(dataset, TFRecordBridge | UnpackedBridge):
        dataset.relabel = False
    chosen = np.unique(np.linspace(0, len(dataset) - 1, min(episodes, len(dataset))).astype(int))
    found = [dataset[int(index)] for index in chosen]
    states = [
        None if e.states is None or "assumed_start_rotation" in e.extras else np.asarray(e.states, dtype=np.float64)
        for e in found
    ]
    recordings = [Recording(np.asarray(e.actions, dtype=np.float64), s) for e, s in zip(found, states, strict=True)]
    fps = float(np.median([e.fps for e in found]))
    return recordings, fps, contract_of(dataset)


def read_arrays(path: Path) -> tuple[list[Recording], float | None, ActionContract]:
    """Recordings of an .npz file: `actions` [N, T, A] or [T, A]; where known `states` [N, T+1, >=6] or [T+1, >=6]
    (canonical poses), `lengths` [N] (actions per episode, where they differ) and `fps`. An .npy file is `actions`.

    Raises:
        UserError: unreadable, or arrays that do not fit together.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {"actions": loaded} if isinstance(loaded, np.ndarray) else {key: loaded[key] for key in loaded.files}
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: not a readable numpy file ({error})") from None
    if "actions" not in arrays:
        raise UserError(f"{path}: missing array 'actions' (found: {', '.join(arrays) or 'none'})")
    actions = _numeric(arrays["actions"], path, "actions")
    actions = actions[None] if actions.ndim == 2 else actions
    if actions.ndim != 3:
        raise UserError(f"{path}: 'actions' has shape {list(arrays['actions'].shape)}, expected [T, A] or [N, T, A]")
    states = None
    if "states" in arrays:
        states = _numeric(arrays["states"], path, "states")
        states = states[None] if states.ndim == 2 else states
        if states.ndim != 3 or states.shape[:2] != (len(actions), actions.shape[1] + 1) or states.shape[2] < 6:
            expected = [len(actions), actions.shape[1] + 1, ">=6"]
            raise UserError(f"{path}: 'states' has shape {list(states.shape)}, expected {expected} (actions plus one)")
    lengths = np.full(len(actions), actions.shape[1])
    if "lengths" in arrays:
        lengths = _numeric(arrays["lengths"], path, "lengths").astype(int).reshape(-1)
        if len(lengths) != len(actions) or lengths.min(initial=1) < 0 or lengths.max(initial=0) > actions.shape[1]:
            raise UserError(f"{path}: 'lengths' must be {len(actions)} numbers of 0 to {actions.shape[1]}")
    fps = float(_numeric(arrays["fps"], path, "fps").reshape(-1)[0]) if "fps" in arrays else None
    recordings = [
        Recording(rows[:n], None if states is None else states[i, : n + 1])
        for i, (rows, n) in enumerate(zip(actions, lengths, strict=True))
    ]
    return recordings, fps, CANONICAL


def _numeric(array: np.ndarray, path: Path, name: str) -> np.ndarray:
    if array.dtype.kind not in "fiub" or not array.size:
        raise UserError(f"{path}: {name!r} is {array.dtype} {list(array.shape)}, expected numbers")
    return array.astype(np.float64)
