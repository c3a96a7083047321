"""The contract of a policy, batched as in Gymnasium's vector environments.

    policy.reset(info, seeds=[0, 1])           # info["layout"]["target"]: float32 [B, 4], ...
    actions = policy.act(observation)           # {"pixels": [B, H, W, 3], "agent_pos": [B, 7]} -> float32 [B, 7]

With one environment: `policy.reset(batch_of_one(info), [seed])`, `policy.act(batch_of_one(observation))[0]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from wfm_sim.errors import UserError

Row = TypeVar("Row")


@runtime_checkable
class Policy(Protocol):
    """Acts on B episodes at once; each row has its own seed, plan and randomness, whatever else is in the batch.

    A policy that never looks at `pixels` may say so with an attribute `uses_pixels = False`: the physics twin is then
    spared drawing them (see `uses_pixels`).
    """

    name: str

    def reset(self, info: dict[str, Any], seeds: Sequence[int], mask: NDArray[np.bool_] | None = None) -> None:
        """Begin new episodes.

        Args:
            info: The batched info of the environment's reset.
            seeds: One integer per row; row i's randomness depends on seeds[i] and its own step count alone.
            mask: bool [B], the rows that begin a new episode; the others go on. None: all of them.
        """

    def act(self, observation: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """The next action of every row: float32 [B, 7], canonical (wfm_sim/actions.py)."""


def uses_pixels(policy: Policy) -> bool:
    """Whether the policy looks at frames, as all do that do not deny it."""
    return bool(getattr(policy, "uses_pixels", True))


def batch_of_one(tree: Any) -> Any:
    """One environment's observation or info with a batch axis of length 1 in every leaf, dictionaries kept.

    Numbers become arrays [1], arrays [...] become [1, ...], anything else an object array [1].
    """
    if isinstance(tree, dict):
        return {key: batch_of_one(value) for key, value in tree.items()}
    if isinstance(tree, (np.ndarray, np.generic, bool, int, float)):
        return np.asarray(tree)[None]
    leaf = np.empty(1, dtype=object)
    leaf[0] = tree
    return leaf


def rows_to_reset(count: int, mask: NDArray[np.bool_] | None) -> list[int]:
    """The indices that `mask` (None: all) picks out of `count` rows."""
    return list(range(count)) if mask is None else [int(i) for i in np.flatnonzero(mask)]


def ready_rows(rows: Sequence[Row | None], count: int) -> list[Row]:
    """The per-row plans of a policy, once every one of the `count` observed rows has been reset.

    Raises:
        UserError: some row was never reset, or `count` is another number than that of the reset.
    """
    ready = [row for row in rows if row is not None]
    if len(ready) != count:
        raise UserError(f"{count} rows to act on, but {len(ready)} were reset; call the policy's reset first")
    return ready
