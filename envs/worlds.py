"""From what a user names (a preset, a path, an object) to the world model and the judge of an environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wfm_sim.envs.core import Judges, Rules, World
from wfm_sim.errors import UserError, unknown
from wfm_sim.world_model import WorldModel

DEFAULT_MODEL = "nano-tabletop"
DEFAULT_JUDGE = "nano-tabletop-judge"
MAX_EPISODE_STEPS = 32  # as the twin


def make_world(
    world_model: str | Path | WorldModel,
    judge: str | Path | Judges | None,
    rules: Rules,
    checkpoint: str | Path | None = None,
    model_options: dict[str, Any] | None = None,
) -> World:
    """A world of an action-conditioned model.

    Args:
        world_model: The name of a shipped or published model, a path, or a model.
        judge: 'nano-tabletop-judge', a path, a judge (see `core.Judges`), or None.
        rules: Of the episodes.
        checkpoint: Of a published model: its file, a folder, "random", or None for the local hub cache.
        model_options: Of a published model, as `wfm_sim.models.simulators.load_simulator` takes them.

    Raises:
        UserError: unknown or unreadable model or judge, options that the model has not, or a model that is not driven
            by actions.
    """
    if rules.max_steps < 1:
        raise UserError(f"max_episode_steps must be at least 1, not {rules.max_steps}")
    model: Any = world_model
    if isinstance(world_model, str | Path):
        model = _load(world_model, checkpoint, model_options or {})
    elif checkpoint is not None or model_options:
        raise UserError("a checkpoint and model options go with the name of a published model")
    if model.spec.condition != "action":
        raise UserError(
            f"a world model driven by actions is needed; {model.spec.name!r} is driven by {model.spec.condition!r}"
        )
    return World(model, _judge(judge), rules)


def _load(world_model: str | Path, checkpoint: str | Path | None, options: dict[str, Any]) -> Any:
    from wfm_sim.models.checkpoint import is_path, load, shipped_weights
    from wfm_sim.models.simulators import SIMULATORS, load_simulator

    name = str(world_model)
    if name in SIMULATORS:
        return load_simulator(name, checkpoint, **options)
    if checkpoint is not None or options:
        raise UserError(
            f"{name!r} takes no checkpoint and no model options; published models do: {', '.join(SIMULATORS)}"
        )
    if not is_path(name) and name not in shipped_weights():
        raise unknown("world model", name, [*shipped_weights(), *SIMULATORS])
    return load(world_model)


def _judge(judge: str | Path | Judges | None) -> Judges | None:
    if not isinstance(judge, str | Path):
        return judge
    from wfm_sim.judge import load_judge

    return load_judge(judge)
