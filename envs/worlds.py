"""From what a user names (a preset, a path, an object) to the world model and the judge of an environment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wfm_sim.actions import UNITS
from wfm_sim.envs.core import Judges, Rules, Trusts, World
from wfm_sim.errors import UserError, unknown
from wfm_sim.world_model import WorldModel

DEFAULT_MODEL = "nano-tabletop"
DEFAULT_JUDGE = "nano-tabletop-judge"
DEFAULT_TRUST = "auto"  # whichever shipped one was calibrated for the model
MAX_EPISODE_STEPS = 32  # as the twin


def make_world(
    world_model: str | Path | WorldModel,
    judge: str | Path | Judges | None,
    rules: Rules,
    checkpoint: str | Path | None = None,
    model_options: dict[str, Any] | None = None,
    trust: str | Path | Trusts | None = DEFAULT_TRUST,
) -> World:
    """A world of an action-conditioned model.

    Args:
        world_model: The name of a shipped or published model, a path, or a model.
        judge: 'nano-tabletop-judge', a path, a judge (see `core.Judges`), or None.
        rules: Of the episodes.
        checkpoint: Of a published model: its file, a folder, "random", or None for the local hub cache.
        model_options: Of a published model, as `wfm_sim.models.simulators.load_simulator` takes them.
        trust: 'auto' (the shipped network that was calibrated for these very weights, if there is one), a name, a path,
            a trust (see `core.Trusts`), or None.

    Raises:
        UserError: unknown or unreadable model, judge or trust, options that the model has not, or a model that is not
            driven by actions.
    """
    if rules.max_steps < 1:
        raise UserError(f"max_episode_steps must be at least 1, not {rules.max_steps}")
    model: Any = world_model
    if isinstance(world_model, str | Path):
        model = _load(world_model, checkpoint, model_options or {})
    elif checkpoint is not None or model_options:
        raise UserError("a checkpoint and model options go with the name of a published model")
    _check_condition(model, "action")
    return World(model, _judge(judge), rules, *_trust(trust, model))


def make_camera_world(world_model: str | Path | WorldModel, rules: Rules) -> World:
    """A world of a camera-conditioned model, without judge and trust; world_model: a name, a path, or a model.

    Raises:
        UserError: unknown or unreadable model, or one that is not driven by camera motion.
    """
    if rules.max_steps < 1:
        raise UserError(f"max_episode_steps must be at least 1, not {rules.max_steps}")
    return World(load_camera_model(world_model), None, rules)


def load_camera_model(world_model: str | Path | WorldModel) -> WorldModel:
    """A camera world by its name or path, or the model itself. UserError where it is not driven by camera motion."""
    model = _load(world_model, None, {}) if isinstance(world_model, str | Path) else world_model
    _check_condition(model, "camera")
    return model


def _check_condition(model: WorldModel, condition: str) -> None:
    if model.spec.condition != condition:
        kind = {"action": "actions", "camera": "camera motion"}[condition]
        raise UserError(
            f"a world model driven by {kind} is needed; {model.spec.name!r} is driven by {model.spec.condition!r}"
        )


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


def _trust(trust: str | Path | Trusts | None, model: WorldModel) -> tuple[Trusts | None, str]:
    """The trust that was asked for, and what must be known of it: that it was calibrated for another model."""
    if trust is None:
        return None, ""
    if not isinstance(trust, str | Path):
        return trust, ""
    from wfm_sim.trust import load_trust, shipped_trust
    from wfm_sim.weights import weights_hash

    if str(trust) == DEFAULT_TRUST:
        # Weights are compared only where a trust may be meant for them: a published model's would take seconds.
        meant = {name: about for name, about in shipped_trust().items() if about.get("name") == model.spec.name}
        if not meant:
            return None, ""
        here = weights_hash(model)
        for name, about in meant.items():
            if about.get("hash") == here:
                return load_trust(name), ""
        names = ", ".join(meant)
        return None, f"no trust: {names} was calibrated for other weights of {model.spec.name!r}"
    chosen = load_trust(trust)
    if tuple(model.spec.condition_units) != UNITS:
        raise UserError(f"trust goes with a model of robot actions; {model.spec.name!r} takes other conditions")
    if chosen.world_model.get("hash") == weights_hash(model):
        return chosen, ""
    meant_for = chosen.world_model.get("name")
    return chosen, f"this trust was calibrated for {meant_for!r} with other weights: its numbers are no probabilities"
