"""Policies whose actions are written in another contract than the environment's, mended.

policy = Converted(policy, named_contract("libero"))       # now canonical, for any environment of ours
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.action_contract import CANONICAL, ActionContract
from wfm_sim.action_conversion import compose, convert, rate_ratio, split
from wfm_sim.actions import apply_action
from wfm_sim.policies.base import Policy, rows_to_reset, uses_pixels


class Converted:
    """A policy that writes actions in `source`, acting in an environment that takes `target`.

    Poses, where the conversion needs them, are `observation["agent_pos"]`. A policy k times as fast as the environment
    is asked k times per step, with `agent_pos` moved on by what it commanded (the picture stays); its k displacements
    become one. A policy k times slower is asked at every k-th step and each of its displacements is spread over k.
    """

    def __init__(
        self, policy: Policy, source: ActionContract, target: ActionContract = CANONICAL, name: str | None = None
    ) -> None:
        """Set up.

        Args:
            policy: What acts.
            source: The contract that it writes.
            target: The contract that the environment takes.
            name: What reports call it; the policy's own name by default.

        Raises:
            UserError: no conversion leads from `source` to `target`.
        """
        self._policy, self._source, self._target = policy, source, target
        self._faster, self._slower = rate_ratio(source, target)
        if source.is_joint or target.is_joint:  # refuse now what no step could convert
            convert(np.zeros((1, source.dim)), source, target)
        self.name = name or policy.name
        self.action_contract = target
        self.uses_pixels = uses_pixels(policy)
        self._parts: NDArray[np.float64] = np.zeros((0, 7))
        self._left: NDArray[np.int64] = np.zeros(0, dtype=np.int64)

    def reset(self, info: dict[str, Any], seeds: Sequence[int], mask: NDArray[np.bool_] | None = None) -> None:
        """See Policy.reset."""
        self._policy.reset(info, seeds, mask)
        if len(self._left) != len(seeds):
            self._parts, self._left = np.zeros((len(seeds), 7)), np.zeros(len(seeds), dtype=np.int64)
        self._left[rows_to_reset(len(seeds), mask)] = 0

    def act(self, observation: dict[str, NDArray[Any]]) -> NDArray[np.float32]:
        """float32 [B, A'] in the target's contract."""
        if self._source.is_joint or (self._faster == self._slower == 1 and "agent_pos" not in observation):
            return convert(self._policy.act(observation), self._source, self._target)
        pose = np.asarray(observation["agent_pos"], dtype=np.float64)
        if self._faster == self._slower == 1:
            return convert(self._policy.act(observation), self._source, self._target, pose)
        return self._write(self._at_another_rate(observation, pose), pose)

    def _at_another_rate(self, observation: dict[str, NDArray[Any]], pose: NDArray[np.float64]) -> NDArray[np.float64]:
        if self._faster > 1:
            taken, here = [], pose
            for _ in range(self._faster):
                taken.append(self._read(observation, here))
                here = apply_action(here, taken[-1])
            return compose(np.stack(taken, axis=-2))
        due = self._left == 0
        if due.any():
            # All rows are asked, because a batch has no holes; those still on their way must not notice. A policy that
            # counts its own steps sees one per question, so rows are only exact when they are due together.
            asked = split(self._read(observation, pose), self._slower)
            self._parts[due], self._left[due] = asked[due], self._slower
        self._left -= 1
        return self._parts.copy()

    def _read(self, observation: dict[str, NDArray[Any]], pose: NDArray[np.float64]) -> NDArray[np.float64]:
        """The policy's action as a canonical one of its own rate."""
        given = self._policy.act({**observation, "agent_pos": pose.astype(np.float32)})
        same_rate = replace(CANONICAL, rate_hz=self._source.rate_hz)
        return convert(given, self._source, same_rate, pose).astype(np.float64)

    def _write(self, canonical: NDArray[np.float64], pose: NDArray[np.float64]) -> NDArray[np.float32]:
        return convert(canonical, replace(CANONICAL, rate_hz=self._target.rate_hz), self._target, pose)
