"""Put policies that were trained and measured among the shipped weights, under names that tell form and stage."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from wfm_sim.errors import UserError
from wfm_sim.policies.learned import load_policy, save_policy


def shipped_name(form: str, stage: int) -> str:
    """What `make_policy` calls a stage: 'bc-state-300'."""
    return f"bc-{form}-{stage}"


def ship_policies(paths: Sequence[Path], history: str, out: Path) -> list[Path]:
    """Write `out`/bc-FORM-STAGE.safetensors of each stage's file.

    Args:
        paths: What `train_policy` wrote.
        history: How they came to be, in a sentence: commands, data seed, machine.
        out: Folder of the weights.

    Raises:
        UserError: no file given, an unreadable one, or one that does not tell its stage or its success; nothing has
            been written then.
    """
    if not paths:
        raise UserError("no policy given; name stages of a run, e.g. runs/train/bc-state/stage-300.safetensors")
    policies = [load_policy(path) for path in paths]
    for path, policy in zip(paths, policies, strict=True):
        for word in ("stage", "success"):
            if word not in policy.about:
                raise UserError(
                    f"{path} does not tell its {word}; ship a stage that `wfm-sim train policy` has measured"
                )
    written = []
    for policy in policies:
        path = out / f"{shipped_name(policy.config.form, policy.about['stage'])}.safetensors"
        save_policy(path, policy.network, {**policy.about, "history": history})
        written.append(path)
    return written
