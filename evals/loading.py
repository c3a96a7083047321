"""From what a user names to a world model and a success judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wfm_sim.envs.core import Judges
from wfm_sim.world_model import WorldModel


def load_judge(judge: Any) -> Judges | None:
    """The judge of this name or path; None for None or 'none'; a judge is passed through."""
    if judge is None or judge == "none":
        return None
    if not isinstance(judge, str | Path):
        return judge  # type: ignore[no-any-return]
    from wfm_sim.judge import load_judge as load

    return load(judge)


def load_model(world_model: str | Path | WorldModel) -> WorldModel:
    """The model of this name or path; a model is passed through."""
    if not isinstance(world_model, str | Path):
        return world_model
    from wfm_sim.models import load

    return load(world_model)
