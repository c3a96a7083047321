"""From what a user names (a preset, a path, an object) to the world model and the judge of an environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wfm_sim.envs.core import Judges, Rules, World
from wfm_sim.errors import UserError
from wfm_sim.world_model import WorldModel

DEFAULT_MODEL = "nano-tabletop"
DEFAULT_JUDGE = "nano-tabletop-judge"
MAX_EPISODE_STEPS = 32  # as the twin


def make_world(world_model: str | Path | WorldModel, judge: str | Path | Judges | None, rules: Rules) -> World:
    """A world of an action-conditioned model.

    Args:
        world_model: A preset's name, a path, or a model.
        judge: 'nano-tabletop-judge', a path, a judge (see `core.Judges`), or None.
        rules: Of the episodes.

    Raises:
        UserError: unknown or unreadable model or judge, or a model that is not driven by actions.
    """
    if rules.max_steps < 1:
        raise UserError(f"max_episode_steps must be at least 1, not {rules.max_steps}")
    model: Any = world_model
    if isinstance(world_model, str | Path):
        from wfm_sim.models import load

        model = load(world_model)
    if model.spec.condition != "action":
        raise UserError(
            f"a world model driven by actions is needed; {model.spec.name!r} is driven by {model.spec.condition!r}"
        )
    return World(model, _judge(judge), rules)


def _judge(judge: str | Path | Judges | None) -> Judges | None:
    if not isinstance(judge, str | Path):
        return judge
    from wfm_sim.judge import load_judge

    return load_judge(judge)
