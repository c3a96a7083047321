"""What a caller may get wrong, and the sentence that says so."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wfm_sim.errors import UserError
from wfm_sim.world_model import WorldModelSpec


def check_actions(
    actions: ArrayLike, expected: tuple[int | None, ...], spec: WorldModelSpec, what: str = "an action"
) -> NDArray[np.float32]:
    """`actions` as float32, clipped to the model's box.

    Args:
        actions: Anything array-like.
        expected: The shape wanted, None where any size will do.
        spec: Of the world model.
        what: How the error calls it.

    Raises:
        UserError: wrong shape, no numbers, or a value that is not finite.
    """
    wanted = "[" + ", ".join("n" if size is None else str(size) for size in expected) + "]"
    units = ", ".join(spec.condition_units)
    try:
        array = np.asarray(actions, dtype=np.float32)
    except (TypeError, ValueError):
        raise UserError(f"{what} must be numbers of shape {wanted} ({units}), not {actions!r}") from None
    fits = array.ndim == len(expected) and all(
        size in (None, given) for given, size in zip(array.shape, expected, strict=True)
    )
    if not fits or 0 in array.shape:
        raise UserError(f"{what} must have shape {wanted} ({units}), not {list(array.shape)}")
    if not np.isfinite(array).all():
        where = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise UserError(
            f"{what} must be finite, but entry {list(where)} is {array[where]}; expected {wanted} ({units})"
        )
    return np.clip(array, *(np.asarray(bound, np.float32) for bound in (spec.condition_low, spec.condition_high)))


def check_chunk(n: int, spec: WorldModelSpec) -> None:
    """Raises UserError unless n actions are whole steps of the model."""
    if n % spec.frames_per_step:
        raise UserError(
            f"{spec.name!r} imagines {spec.frames_per_step} frames per step, so the number of actions must be a "
            f"multiple of {spec.frames_per_step}, not {n}; pad or cut the chunk"
        )


def check_render_mode(render_mode: str | None, known: list[str]) -> None:
    """Raises UserError unless None or one of `known`."""
    if render_mode is not None and render_mode not in known:
        raise UserError(f"unknown render mode {render_mode!r}; known: {', '.join(known)}")
