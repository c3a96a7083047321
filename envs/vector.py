"""B imagined episodes behind Gymnasium's `VectorEnv`: one world-model call per step for the whole batch.

Row i of `reset(seed=s)` is, frame by frame and through every later reset, the single environment reset with seed s + i.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike, NDArray

from wfm_sim.envs.checks import check_actions, check_chunk, check_render_mode
from wfm_sim.envs.core import (
    Episodes,
    Start,
    Steps,
    World,
    advance,
    begin,
    exchange,
    merge,
    observation,
    row_info,
    select,
)
from wfm_sim.envs.single import ENDED, Observation, Snapshot, Starter, action_space
from wfm_sim.errors import UserError, unknown

Outcome = tuple[Observation, NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]
_PER_ROW_RANK = {"image": 4, "agent_pos": 2, "episode": 1, "frame": 1}  # ranks at which an option names each row's own


class ImaginedVectorEnv(VectorEnv[Observation, NDArray[np.float32], NDArray[Any]]):
    """B rows of one world. Autoreset follows Gymnasium 1.4 (https://farama.org/Vector-Autoreset-Mode):

    - NEXT_STEP (default): the step after an end ignores that row's action, returns its reset observation, reward 0.
    - SAME_STEP: the step that ends a row already returns its reset observation; the last one of the episode and its
      info are in info["final_obs"] and info["final_info"], with the masks "_final_obs" and "_final_info".
    - DISABLED: rows that ended must be reset with options={"reset_mask": bool [B]} before the next step.

    Only rows that ended are ever reset. In `reset`, an option holds for every row, or names each row's own: "episode",
    "frame" [B], "image" [B, H, W, 3], "agent_pos" [B, 7].
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012 - as Gymnasium

    def __init__(
        self,
        num_envs: int,
        world: World,
        starter: Starter,
        observation_space: gym.spaces.Dict,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        check_render_mode(render_mode, self.metadata["render_modes"])
        if num_envs < 1:
            raise UserError(f"num_envs must be at least 1, not {num_envs}")
        try:
            self.autoreset_mode = AutoresetMode(autoreset_mode)
        except ValueError:
            raise unknown("autoreset mode", autoreset_mode, [mode.value for mode in AutoresetMode]) from None
        self.num_envs, self.world, self.render_mode = num_envs, world, render_mode
        self.single_observation_space, self.single_action_space = observation_space, action_space(world)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.metadata = {
            **self.metadata,
            "render_fps": round(world.model.spec.fps),
            "autoreset_mode": self.autoreset_mode,
        }
        self._max_episode_steps = world.rules.max_steps
        self._starter = starter
        self._rngs = [seeding.np_random()[0] for _ in range(num_envs)]
        self._episodes: Episodes | None = None

    @property
    def task_description(self) -> tuple[str, ...]:
        """Every row's instruction."""
        return tuple(start.instruction for start in self._episodes.starts) if self._episodes else ("",) * self.num_envs

    def call(self, name: str) -> tuple[Any, ...]:
        """Every row's attribute `name`, as vectors of separate environments give it (e.g. 'task_description')."""
        value = getattr(self, name)
        return value if name == "task_description" else (value,) * self.num_envs

    get_attr = call

    def reset(  # type: ignore[override]
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin episodes: all rows, or those of options["reset_mask"] (bool [B]).

        Args:
            seed: Row i gets seed + i, or seed[i]; None lets each row draw from its own generator.
            options: As for the single environment; see the class.

        Returns:
            Observations of all rows, infos of the rows that were reset.

        Raises:
            UserError: a bad mask, seed list or option.
        """
        options = dict(options or {})
        mask = self._check_mask(options.pop("reset_mask", None))
        seeds = self._check_seeds(seed)
        for row in np.flatnonzero(mask):
            if seeds[row] is not None:
                self._rngs[row] = seeding.np_random(seeds[row])[0]
        rows = np.flatnonzero(mask).tolist()
        begun = begin(self.world, [self._start(i, seeds[i], self._row_options(options, i)) for i in rows])
        self._episodes = begun if mask.all() else exchange(self._current, rows, begun)
        return self._observe(), self._infos(mask)

    def step(self, actions: ArrayLike) -> Outcome:
        """Imagine the next frame of every row, or, of a model that imagines n at a time, the next n.

        Then observations are the last of them, rewards their sums, and infos["frames"], uint8 [B, n, H, W, 3], has all
        that `step_chunk` would give.

        Args:
            actions: float32 [B, A] or [B, n, A], as the action space; clipped to it.

        Raises:
            UserError: wrong shape, or a value that is not finite.
            AssertionError: autoreset is disabled and a row that ended was not reset.
        """
        spec = self.world.model.spec
        n = spec.frames_per_step
        rows = check_actions(actions, tuple(self.action_space.shape or ()), spec, "a batch of actions")
        obs, rewards, terminated, truncated, infos = self._advance(rows.reshape(self.num_envs, n, -1), count=n > 1)
        if n > 1:
            infos |= {"frames": obs["pixels"], "_frames": np.ones(self.num_envs, dtype=bool)}
        last = {key: value[:, -1].copy() for key, value in obs.items()}
        return last, rewards.sum(axis=1), terminated[:, -1], truncated[:, -1], infos

    def step_chunk(self, actions: ArrayLike) -> Outcome:
        """Imagine n frames of every row in one go; one chunk is one step as far as autoreset is concerned.

        A row that ends inside the chunk takes no further action of it: its last observation is repeated, its rewards
        are 0 and its flags stay set. Then, by autoreset mode: NEXT_STEP, the next chunk ignores the row's actions and
        its n observations are all the reset observation; SAME_STEP, the row's entries after the end, and always the
        last one, are the reset observation (the true last one is in info["final_obs"]); DISABLED, as `step`.
        infos["steps"] is the number of actions taken per row.

        Args:
            actions: float32 [B, n, A], n a multiple of the model's frames per step.

        Returns:
            Observations stacked as [B, n, ...], rewards float64 [B, n], terminated and truncated bool [B, n], infos.

        Raises:
            UserError, AssertionError: as `step`.
        """
        spec = self.world.model.spec
        chunk = check_actions(actions, (self.num_envs, None, len(spec.condition_low)), spec, "chunks of actions")
        check_chunk(chunk.shape[1], spec)
        return self._advance(chunk, count=True)

    def snapshot(self, rows: Sequence[int] | NDArray[Any] | None = None) -> Snapshot:
        """All rows, or some, as they are now. It costs nothing, and later steps leave it as it is."""
        index = np.arange(self.num_envs) if rows is None else np.arange(self.num_envs)[np.asarray(rows)]
        episodes = self._current if rows is None else select(self._current, index)
        return Snapshot(episodes, tuple(self._rngs[i].bit_generator.state for i in index))

    def restore(self, snapshot: Snapshot, rows: Sequence[int] | NDArray[Any] | None = None) -> Observation:
        """Put a snapshot back into all rows, or into `rows`; a snapshot of one row fits any number: that is a fork.

        The same actions then give the same frames, bit for bit (in the same batch; in another within rounding).

        Returns:
            The observations of all rows.
        """
        index = np.arange(self.num_envs)[slice(None) if rows is None else np.asarray(rows)]
        if not isinstance(snapshot, Snapshot) or len(snapshot.episodes) not in (1, len(index)):
            raise UserError(f"restore() takes a snapshot of 1 or of {len(index)} rows for {len(index)} rows")
        source = np.zeros(len(index), int) if len(snapshot.episodes) == 1 else np.arange(len(index))
        restored = select(snapshot.episodes, source)
        full = len(index) == self.num_envs
        self._episodes = merge([(index, restored)]) if full else exchange(self._current, index, restored)
        for row, origin in zip(index, source, strict=True):
            self._rngs[row].bit_generator.state = snapshot.random[origin]
        return self._observe()

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:  # type: ignore[override]
        """The latest frames, B times uint8 [H, W, 3], in render mode 'rgb_array'."""
        return None if self.render_mode is None else tuple(frame.copy() for frame in self._current.frames)

    def close_extras(self, **kwargs: Any) -> None:
        """Let go of the twin or the data set behind the starts."""
        self._starter.close()

    @property
    def _current(self) -> Episodes:
        if self._episodes is None:
            raise gym.error.ResetNeeded(ENDED)
        return self._episodes

    def _advance(self, actions: NDArray[np.float32], count: bool = False) -> Outcome:
        now, n = self._current, actions.shape[1]
        pending = now.ended
        if self.autoreset_mode is AutoresetMode.DISABLED and pending.any():
            raise AssertionError(
                f"rows {np.flatnonzero(pending).tolist()} have ended: reset them with options={{'reset_mask': ...}}"
            )
        live, waiting = np.flatnonzero(~pending), np.flatnonzero(pending)
        parts: list[tuple[NDArray[Any], Episodes]] = []
        outcomes: list[tuple[NDArray[Any], Steps]] = []
        if len(live):
            moved, steps = advance(self.world, now if len(live) == len(now) else select(now, live), actions[live])
            parts.append((live, moved))
            outcomes.append((live, steps))
        if len(waiting):  # NEXT_STEP: these rows spend this step on their reset
            begun = begin(self.world, [self._start(i) for i in waiting.tolist()])
            parts.append((waiting, begun))
            outcomes.append((waiting, _standing_still(begun, n)))
        self._episodes = now = merge(parts)
        steps = _scatter(outcomes)
        obs = observation(self.world, steps.frames, steps.poses)

        infos: dict[str, Any] = {}
        taken = steps.taken if count else None
        ended = np.flatnonzero(now.ended) if self.autoreset_mode is AutoresetMode.SAME_STEP else np.empty(0, int)
        if len(ended):
            for row in ended.tolist():
                final = {key: np.array(value[row, -1]) for key, value in obs.items()}
                infos = self._add_info(infos, {"final_obs": final, "final_info": self._info(now, row, taken)}, row)
            begun = begin(self.world, [self._start(i) for i in ended.tolist()])
            self._episodes = exchange(now, ended, begun)
            fresh = observation(self.world, begun.frames, begun.poses)
            for place, row in enumerate(ended.tolist()):
                after = min(int(steps.taken[row]), n - 1)
                for key, value in obs.items():
                    value[row, after:] = fresh[key][place]
        for row in range(self.num_envs):
            infos = self._add_info(infos, self._info(self._episodes, row, taken), row)
        return obs, steps.rewards, steps.terminated, steps.truncated, infos

    def _info(self, episodes: Episodes, row: int, taken: NDArray[np.int64] | None = None) -> dict[str, Any]:
        info = row_info(self.world, episodes, row)
        return info if taken is None else {**info, "steps": int(taken[row])}

    def _infos(self, mask: NDArray[np.bool_]) -> dict[str, Any]:
        infos: dict[str, Any] = {}
        for row in np.flatnonzero(mask).tolist():
            infos = self._add_info(infos, row_info(self.world, self._current, row), row)
        return infos

    def _observe(self) -> Observation:
        return observation(self.world, self._current.frames, self._current.poses)

    def _start(self, row: int, seed: int | None = None, options: dict[str, Any] | None = None) -> Start:
        return self._starter(self._rngs[row], seed, options or {})

    def _row_options(self, options: dict[str, Any], row: int) -> dict[str, Any]:
        mine = dict(options)
        for key, rank in _PER_ROW_RANK.items():
            if key in options and np.ndim(options[key]) == rank:
                if len(options[key]) != self.num_envs:
                    raise UserError(f"options[{key!r}] names {len(options[key])} rows, but there are {self.num_envs}")
                mine[key] = options[key][row]
        return mine

    def _check_seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, int | np.integer):
            return [int(seed) + row for row in range(self.num_envs)]
        if len(seed) != self.num_envs:
            raise UserError(f"a list of seeds must have num_envs={self.num_envs} entries, not {len(seed)}")
        return [None if one is None else int(one) for one in seed]

    def _check_mask(self, mask: Any) -> NDArray[np.bool_]:
        if mask is None:
            return np.ones(self.num_envs, dtype=bool)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (self.num_envs,):
            raise UserError(f"options['reset_mask'] must be a bool array of shape [{self.num_envs}], not {mask!r}")
        if not mask.any():
            raise UserError("options['reset_mask'] must name at least one row to reset")
        return mask.copy()


def _standing_still(episodes: Episodes, n: int) -> Steps:
    """The outcome of rows that spent their step on a reset: n times the first frame, reward 0, nothing ended."""
    rows = len(episodes)
    no = np.zeros((rows, n), dtype=bool)
    return Steps(
        frames=np.repeat(episodes.frames[:, None], n, axis=1),
        poses=np.repeat(episodes.poses[:, None], n, axis=1),
        rewards=np.zeros((rows, n)),
        terminated=no,
        truncated=no.copy(),
        taken=np.zeros(rows, dtype=np.int64),
    )


def _scatter(outcomes: list[tuple[NDArray[Any], Steps]]) -> Steps:
    """The outcomes of groups of rows, in the order of the rows."""
    order = np.argsort(np.concatenate([rows for rows, _ in outcomes]))
    names = ("frames", "poses", "rewards", "terminated", "truncated", "taken")
    return Steps(**{name: np.concatenate([getattr(steps, name) for _, steps in outcomes])[order] for name in names})
