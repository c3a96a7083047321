"""Classifier-free guidance in the papers' convention: guidance 0 is no guidance.

cond + g * (cond - uncond) is what the Cosmos papers and code call a guidance of g; elsewhere it is a scale of 1 + g.
It is linear, so that guiding network outputs, velocities or x0 predictions is the same.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from wfm_sim.errors import UserError

# (x [B, ...], timesteps [B, 1 or T]) -> output of x's shape
Network = Callable[[Tensor, Tensor], Tensor]


def guide(cond: Tensor, uncond: Tensor, guidance: float) -> Tensor:
    """cond + guidance * (cond - uncond)."""
    return cond + guidance * (cond - uncond)


def guided(
    network: Callable[..., Tensor],
    cond: Mapping[str, Any],
    uncond: Mapping[str, Any] | None,
    guidance: float,
    *,
    one_pass: bool = True,
) -> Network:
    """A network with its conditions filled in, guided away from `uncond`.

    Args:
        network: (x, timesteps, **conditions) -> output.
        cond, uncond: Conditions by keyword: tensors [B, ...], lists of them, or what both passes share. Without
            `uncond` nothing is guided.
        guidance: 0 evaluates the conditional pass alone.
        one_pass: Both passes in one batch of 2 B rows: faster where B is small, at twice the memory.

    Raises:
        UserError: one pass was asked for, and a condition is of another shape in the unconditional one.
    """
    if uncond is None or guidance == 0:
        return lambda x, t: network(x, t, **cond)
    if not one_pass:
        return lambda x, t: guide(network(x, t, **cond), network(x, t, **uncond), guidance)
    names = {**cond, **uncond}
    both = {name: _stack(name, cond.get(name), uncond.get(name)) for name in names}

    def run(x: Tensor, timesteps: Tensor) -> Tensor:
        with_it, without = network(torch.cat((x, x)), torch.cat((timesteps, timesteps)), **both).chunk(2)
        return guide(with_it, without, guidance)

    return run


def _stack(name: str, a: Any, b: Any) -> Any:
    """A condition of both passes, one below the other; lists and tuples of tensors likewise."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return type(a)(_stack(name, x, y) for x, y in zip(a, b, strict=True))
    if not isinstance(a, Tensor) and not isinstance(b, Tensor):
        return a
    shapes = [list(c.shape) if isinstance(c, Tensor) else c for c in (a, b)]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"{name}: {shapes[0]} with the condition and {shapes[1]} without it cannot share a pass; "
            "pad them to one length, or guide in two passes (one_pass=False)"
        )
    return torch.cat((a, b))
