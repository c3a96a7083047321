"""From what a user names to a world model and a success judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wfm_sim.envs.core import Judges
from wfm_sim.world_model import WorldModel


def load_judge(judge: Any) -> Judges | None:
    """The judge of this name, path or address (openai:MODEL@URL); None for None or 'none'; a judge itself."""
    if judge is None or judge == "none":
        return None
    if not isinstance(judge, str | Path):
        return judge  # type: ignore[no-any-return]
    if isinstance(judge, str) and judge.startswith("openai:"):
        from wfm_sim.evals.vlm_judge import parse_vlm_judge

        return parse_vlm_judge(judge)
    from wfm_sim.judge import load_judge as load

    return load(judge)


def load_model(world_model: str | Path | WorldModel) -> WorldModel:
    """The model of this name or path; a model is passed through."""
    if not isinstance(world_model, str | Path):
        return world_model
    from wfm_sim.models import load

    return load(world_model)


def judge_name(judge: Any) -> str:
    """What to call a judge that was given as a name, a path, an address or an object."""
    if not isinstance(judge, str | Path):
        return str(getattr(judge, "name", type(judge).__name__))
    return str(judge) if "://" in str(judge) else Path(judge).stem
