"""One imagined episode behind Gymnasium's `Env`: what Tabletop-v0 and ActionWorld-v0 share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from wfm_sim.envs.checks import check_actions, check_chunk, check_render_mode
from wfm_sim.envs.core import (
    Episodes,
    Start,
    Steps,
    World,
    advance,
    begin,
    observation,
    row_info,
)
from wfm_sim.errors import UserError

Observation = dict[str, NDArray[Any]]
ENDED = "the episode has ended (or never begun): call reset() before step()"


class Starter(Protocol):
    """Where episodes begin (envs/starts.py)."""

    def __call__(self, rng: np.random.Generator, seed: int | None, options: dict[str, Any]) -> Start:
        """The start asked for by `seed` and `options`; what they leave open is drawn from `rng`."""

    def close(self) -> None:
        """Let go of what it holds."""


@dataclass(frozen=True)
class Snapshot:
    """An imagined world at one moment, with the random state that later resets draw from."""

    episodes: Episodes
    random: tuple[Mapping[str, Any], ...]


def pose_space(world: World, low: ArrayLike, high: ArrayLike) -> gym.spaces.Dict:
    """The observation space of a world: pixels and, for robot actions, agent_pos between `low` and `high` [7]."""
    height, width = world.model.spec.frame_size
    spaces: dict[str, gym.Space[Any]] = {"pixels": gym.spaces.Box(0, 255, (height, width, 3), np.uint8)}
    if world.has_pose:
        spaces["agent_pos"] = gym.spaces.Box(np.asarray(low, np.float32), np.asarray(high, np.float32))
    return gym.spaces.Dict(spaces)


def action_space(world: World) -> gym.spaces.Box:
    """float32 [A] between the model's bounds, in the units of `model.spec.condition_units`.

    A model that imagines n > 1 frames per step takes n actions as one: [n, A].
    """
    spec = world.model.spec
    low, high = (np.asarray(bound, np.float32) for bound in (spec.condition_low, spec.condition_high))
    if spec.frames_per_step > 1:
        low, high = (np.tile(bound, (spec.frames_per_step, 1)) for bound in (low, high))
    return gym.spaces.Box(low, high)


class ImaginedEnv(gym.Env[Any, Any]):
    """A world model as an environment; subclasses choose the world, the starts and the spaces.

    Attributes:
        task_description: The current episode's instruction.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012 - as Gymnasium

    def __init__(
        self, world: World, starter: Starter, observation_space: gym.spaces.Dict, render_mode: str | None = None
    ) -> None:
        check_render_mode(render_mode, self.metadata["render_modes"])
        self.world, self.render_mode = world, render_mode
        self.observation_space, self.action_space = observation_space, action_space(world)
        self.metadata = {**self.metadata, "render_fps": round(world.model.spec.fps)}
        self._max_episode_steps = world.rules.max_steps  # as evaluation loops read it
        self._starter = starter
        self._episodes: Episodes | None = None

    @property
    def task_description(self) -> str:
        """The instruction of the current episode ('' before the first reset)."""
        return self._episodes.starts[0].instruction if self._episodes else ""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode. See the class for the options.

        Raises:
            UserError: an option that is unknown, or whose value cannot be used.
        """
        super().reset(seed=seed)
        self._episodes = begin(self.world, [self._starter(self.np_random, seed, dict(options or {}))])
        return self._observe(), row_info(self.world, self._episodes, 0)

    def step(self, action: ArrayLike) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Imagine the next frame; of a model that imagines n at a time, the next n frames.

        Then the observation is the last of them, the reward their sum, and the info also has "frames", uint8
        [n, H, W, 3], and "steps", the number of actions taken before the episode ended (n, if it did not).

        Args:
            action: float32 [A] or [n, A], as the action space; clipped to it.

        Raises:
            UserError: wrong shape, or a value that is not finite.
            gymnasium.error.ResetNeeded: the episode has ended.
        """
        spec = self.world.model.spec
        rows = check_actions(action, tuple(self.action_space.shape or ()), spec).reshape(spec.frames_per_step, -1)
        steps = self._advance(rows)
        info = row_info(self.world, self._current, 0)
        if len(rows) > 1:
            info |= {"frames": steps.frames[0].copy(), "steps": int(steps.taken[0])}
        return (
            self._observe(),
            float(steps.rewards[0].sum()),
            bool(steps.terminated[0, -1]),
            bool(steps.truncated[0, -1]),
            info,
        )

    def step_chunk(
        self, actions: ArrayLike
    ) -> tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Imagine n frames in one go: the same frames and rewards as n single steps.

        When the episode ends inside the chunk, the later actions are not taken: from there on the last observation is
        repeated, rewards are 0 and the terminated or truncated flag stays set. `info["steps"]` is the number of
        actions taken, 1..n.

        Args:
            actions: float32 [n, A], n a multiple of the model's frames per step.

        Returns:
            Observations stacked along a leading axis n, rewards float64 [n], terminated and truncated bool [n], and
            the info after the last action taken.

        Raises:
            UserError, gymnasium.error.ResetNeeded: as `step`.
        """
        spec = self.world.model.spec
        chunk = check_actions(actions, (None, len(spec.condition_low)), spec, "a chunk of actions")
        check_chunk(len(chunk), spec)
        steps = self._advance(chunk)
        obs = observation(self.world, steps.frames[0], steps.poses[0])
        info = {**row_info(self.world, self._current, 0), "steps": int(steps.taken[0])}
        return obs, steps.rewards[0], steps.terminated[0], steps.truncated[0], info

    def snapshot(self) -> Snapshot:
        """The imagined world as it is now. It costs nothing, and later steps leave it as it is."""
        return Snapshot(self._current, (self.np_random.bit_generator.state,))

    def restore(self, snapshot: Snapshot) -> Observation:
        """Go back (or across, from another environment of the same world) to a snapshot.

        The same actions then give the same frames, bit for bit.

        Returns:
            The observation at that moment.
        """
        if not isinstance(snapshot, Snapshot) or len(snapshot.episodes) != 1:
            raise UserError("restore() takes what snapshot() of a single environment returned")
        self._episodes = snapshot.episodes
        self.np_random.bit_generator.state = snapshot.random[0]
        return self._observe()

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """The latest frame, uint8 [H, W, 3], in render mode 'rgb_array'."""
        if self.render_mode is None:
            gym.logger.warn("render() without a render mode: make the environment with render_mode='rgb_array'.")
            return None
        return self._current.frames[0].copy()

    def close(self) -> None:
        """Let go of the twin or the data set behind the starts."""
        self._starter.close()

    @property
    def _current(self) -> Episodes:
        if self._episodes is None:
            raise gym.error.ResetNeeded(ENDED)
        return self._episodes

    def _advance(self, actions: NDArray[np.float32]) -> Steps:
        if self._current.ended[0]:
            raise gym.error.ResetNeeded(ENDED)
        self._episodes, steps = advance(self.world, self._current, actions[None])
        return steps

    def _observe(self) -> Observation:
        return observation(self.world, self._current.frames[0], self._current.poses[0])
