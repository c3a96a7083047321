"""How often is the judge of success wrong? Its answers on true and on imagined frames, one record per episode.

Truth has two meanings here, and both are recorded. On true frames it is the physics state. On imagined frames the state
at the same step of the twin says whether model and judge *together* are right; whether the judge reads the imagined
picture rightly is asked of the object tracker (judge_eval_tracker.py), which looks at that very picture.

An episode is called a success by the rule of the imagined environments (`Rules` in envs/core.py): a probability above
the threshold on successive frames, the first frame included, within the 32 steps of an episode.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.data.files import atomic_path
from wfm_sim.envs.core import Judges, Rules
from wfm_sim.envs.worlds import MAX_EPISODE_STEPS
from wfm_sim.errors import UserError
from wfm_sim.evals.heldout import HeldOut
from wfm_sim.evals.judge_eval_tracker import shows_success, target_look
from wfm_sim.evals.nano import Verdict, imagine
from wfm_sim.world_model import WorldModel

TRUE, IMAGINED = "true", "imagined"  # frames
FORMAT = 1  # of the cached rollouts


def rule() -> Verdict:
    """How `eval policy` decides that an imagined episode is a success: the defaults of its environments."""
    rules = Rules(MAX_EPISODE_STEPS)
    return Verdict(rules.success_threshold, rules.success_frames)


def judge_record(kind: str, episode: HeldOut, frames: NDArray[np.uint8], judge: Judges) -> dict[str, Any]:
    """One episode's record.

    Args:
        kind: TRUE or IMAGINED: what `frames` are.
        episode: As the twin recorded it.
        frames: uint8 [T + 1, H, W, 3] of this episode; the first is the twin's.
        judge: Asked about every frame beside the first.

    Returns:
        frames (the kind), seed, policy, task, target_colour, instruction; of each frame, lists of T + 1: truth (the
        twin's state at that step), probability (the judge's) and tracker (None where the target is hidden in the first
        frame); of the episode: success (the twin's, at any step), judged and tracked (by the rule).
    """
    rows = len(frames)
    first = np.repeat(episode.frames[:1], rows, axis=0)
    probability, _ = judge(frames, first, [episode.task] * rows, [episode.target_colour] * rows)
    probability = np.asarray(probability, dtype=np.float64)
    look, verdict = target_look(episode), rule()
    tracker = None if look is None else shows_success(frames, episode, look)
    return {
        "frames": kind,
        "seed": episode.seed,
        "policy": episode.policy,
        "task": episode.task,
        "target_colour": episode.target_colour,
        "instruction": episode.instruction,
        "truth": [bool(t) for t in episode.success],
        "probability": [round(float(p), 6) for p in probability],
        "tracker": None if tracker is None else [bool(t) for t in tracker],
        "success": bool(episode.success[1:].any()),
        "judged": verdict.ever(probability),
        "tracked": None if tracker is None else verdict.ever(tracker.astype(np.float64)),
    }


def imagined_frames(
    model: WorldModel,
    model_id: str,
    episodes: Sequence[HeldOut],
    batch: int,
    cache: Path | str,
    on_batch: Callable[[int], None] = lambda done: None,
) -> Iterator[tuple[HeldOut, NDArray[np.uint8]]]:
    """Every episode imagined from its first frame under its recorded actions: (episode, uint8 [T + 1, H, W, 3]).

    Args:
        model: Driven by actions, of the episodes' frame size.
        model_id: Names model, weights and precision: rollouts are kept under it, for the next judge.
        batch: Rollouts at once. It is part of what they are kept under, since bits may depend on it.
        cache: Folder; a subfolder per model is made in it.
        on_batch: Told how many episodes are done.
    """
    key = hashlib.sha256(json.dumps([FORMAT, model_id, batch, [e.seed for e in episodes]]).encode()).hexdigest()[:8]
    folder, done = Path(cache) / f"imagined-{key}", 0
    for begin in range(0, len(episodes), batch):
        group = episodes[begin : begin + batch]
        path = folder / f"{begin:06d}.npz"
        if path.exists():
            frames = _load(path)
        else:
            frames = imagine(model, group)
            with atomic_path(path) as partial, partial.open("wb") as file:
                np.savez_compressed(file, frames=frames)
        done += len(group)
        on_batch(done)
        yield from zip(group, frames, strict=True)


def _load(path: Path) -> NDArray[np.uint8]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return np.asarray(archive["frames"], dtype=np.uint8)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read the rollouts {path}: {error}; delete it and run again.") from error
