"""The tabletop as LeRobot's EnvHub and lerobot-eval want it: `make_env` returns {suite: {task_id: VectorEnv}}.

    from wfm_sim.envs.hub import make_env
    envs = make_env(n_envs=8)                             # {"tabletop": {0: push, 1: pick, 2: place}}
    envs = make_env(n_envs=8, cfg={"suites": "tabletop,tabletop_twin", "task": "push", "camera": "front"})

A repository on the hub needs only an `env.py` that imports this function (docs/envhub/env.py). The contract was read
in LeRobot 0.6.1, src/lerobot/envs/utils.py and src/lerobot/scripts/lerobot_eval.py; nothing here imports LeRobot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from wfm_sim.assets.tabletop import TASKS
from wfm_sim.envs.core import Judges, Trusts, advance, merge, observation, select
from wfm_sim.envs.single import Observation
from wfm_sim.envs.tabletop import TabletopVectorEnv
from wfm_sim.envs.vector import Outcome, _scatter, _standing_still
from wfm_sim.envs.worlds import DEFAULT_JUDGE, DEFAULT_MODEL, DEFAULT_TRUST, MAX_EPISODE_STEPS
from wfm_sim.errors import UserError, unknown
from wfm_sim.world_model import WorldModel

MODEL_SUITE, TWIN_SUITE = "tabletop", "tabletop_twin"
SUITES = (MODEL_SUITE, TWIN_SUITE)
# LeRobot's rollout() says so in the options of its reset: it will ignore every row from its first end on.
NEW_ROLLOUT = "lerobot_new_rollout"


@dataclass(frozen=True)
class HubConfig:
    """What `cfg` may say.

    Attributes:
        suites: "tabletop" (the learned simulator), "tabletop_twin" (its physics twin), or both: a list, or a string
            with commas.
        task: "push", "pick", "place", likewise; LeRobot's own name for the field.
        world_model, judge, trust: As for `wfm_sim/Tabletop-v0`.
        camera: None: observation["pixels"] is the image (a policy's "observation.image"). A name: it is {name: image}
            ("observation.images.<name>").
        image_size: Height and width of the twin's frames, 64..128 pixels; the learned simulator's are its model's.
        max_episode_steps: Truncation.
        autoreset_mode: "NextStep", "SameStep" or "Disabled" (gymnasium.vector.AutoresetMode). With NextStep the step
            after an end has reward 0, which lerobot-eval counts to the episode that ended.
    """

    suites: Any = MODEL_SUITE
    task: Any = TASKS
    world_model: str | Path | WorldModel = DEFAULT_MODEL
    judge: str | Path | Judges | None = DEFAULT_JUDGE
    trust: str | Path | Trusts | None = DEFAULT_TRUST
    camera: str | None = None
    image_size: int = 64
    max_episode_steps: int = MAX_EPISODE_STEPS
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP


def make_env(n_envs: int = 1, use_async_envs: bool = False, cfg: Any = None) -> dict[str, dict[int, VectorEnv]]:
    """One vector environment of `n_envs` rows per suite and task; task ids are positions in TASKS.

    Args:
        n_envs: Rows of each.
        use_async_envs: Rows of the twin run in processes of their own. The learned simulator imagines all its rows in
            one batch either way.
        cfg: None, a mapping with the fields of HubConfig, or any object with some of them (LeRobot's EnvConfig); a
            field that is absent or None there has its default.

    Returns:
        The environments; close each one. The learned ones share one world model.

    Raises:
        UserError: n_envs below 1, an unknown field, suite, task or autoreset mode, or what the environments refuse.
    """
    if isinstance(n_envs, bool) or not isinstance(n_envs, int | np.integer) or n_envs < 1:
        raise UserError(f"n_envs must be a whole number from 1 up, not {n_envs!r}")
    config = read_config(cfg)
    suites = _names("suite", config.suites, SUITES)
    tasks = _names("task", config.task, TASKS)
    envs: dict[str, dict[int, VectorEnv]] = {suite: {} for suite in suites}
    try:
        for suite in suites:
            for task in tasks:
                if suite == TWIN_SUITE:
                    made: VectorEnv = _twin(n_envs, use_async_envs, task, config)
                else:
                    made = _learned(n_envs, task, config)
                    world = made.world  # shared by the tasks; no trust is looked for again, for the sake of its notice
                    trust = config.trust if world.trust is None else world.trust
                    config = replace(config, world_model=world.model, judge=world.judge, trust=trust)
                envs[suite][TASKS.index(task)] = made
    except BaseException:
        for group in envs.values():
            for env in group.values():
                env.close()
        raise
    return envs


def read_config(cfg: Any) -> HubConfig:
    """The settings that `make_env` was given, with defaults for the rest. Raises UserError for an unknown field."""
    names = [field.name for field in fields(HubConfig)]
    if cfg is None:
        return HubConfig()
    if isinstance(cfg, Mapping):
        for name in cfg:
            if name not in names:
                raise unknown("field of cfg", name, names)
        said = dict(cfg)
    else:  # an EnvConfig has fields of LeRobot's own besides
        said = {name: getattr(cfg, name, None) for name in names}
        said = {name: value for name, value in said.items() if value is not None}
    config = HubConfig(**said)
    try:
        mode = AutoresetMode(config.autoreset_mode)
    except ValueError:
        raise unknown("autoreset mode", config.autoreset_mode, [mode.value for mode in AutoresetMode]) from None
    return replace(config, autoreset_mode=mode)


class HubVectorEnv(TabletopVectorEnv):
    """`TabletopVectorEnv` with what lerobot-eval asks of a vector environment.

    - `call` and `get_attr` also know "task" (one name per row) and "render" (one frame per row).
    - `reset(options={"lerobot_new_rollout": True})`, as LeRobot's rollout() does it, starts a rollout in which a row
      that has ended stands still until the next reset: its last observation and info are repeated, its reward is 0 and
      its flags stay set, whatever the autoreset mode. It costs nothing; the others go on alone, which may change how
      a network rounds, and nothing else. After any other reset the autoreset mode holds.
    """

    def __init__(self, num_envs: int, camera: str | None = None, **kwargs: Any) -> None:
        super().__init__(num_envs, render_mode="rgb_array", **kwargs)
        self.camera = camera
        if camera is not None:
            self.single_observation_space = _named_space(self.single_observation_space, camera)
            self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._standing = False

    def call(self, name: str, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        """Every row's attribute, or what its method returns, as vectors of separate environments give it.

        Raises:
            AttributeError: there is no such attribute.
        """
        if name == "render":
            return self.render() or ()
        if name == "task":
            return tuple(start.task for start in self._current.starts)
        return super().call(name)

    get_attr = call

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """As ImaginedVectorEnv.reset; see the class for options["lerobot_new_rollout"]."""
        options = dict(options or {})
        self._standing = bool(options.pop(NEW_ROLLOUT, False))
        return super().reset(seed=seed, options=options)

    def step(self, actions: Any) -> Outcome:
        """As ImaginedVectorEnv.step."""
        obs, *rest = super().step(actions)
        return (_named(obs, self.camera), *rest)  # type: ignore[return-value]

    def _observe(self) -> Observation:
        return _named(super()._observe(), self.camera)

    def _advance(self, actions: NDArray[np.float32], count: bool = False) -> Outcome:
        now = self._current
        if not self._standing:
            return super()._advance(actions, count)
        live, over = np.flatnonzero(~now.ended), np.flatnonzero(now.ended)
        parts, outcomes = [], []
        if len(live):
            moved, steps = advance(self.world, now if len(live) == len(now) else select(now, live), actions[live])
            parts.append((live, moved))
            outcomes.append((live, steps))
        if len(over):
            held = select(now, over)
            still = _standing_still(held, n := actions.shape[1])
            flags = {name: np.repeat(getattr(held, name)[:, None], n, axis=1) for name in ("terminated", "truncated")}
            parts.append((over, held))
            outcomes.append((over, replace(still, **flags)))
        self._episodes = merge(parts)
        steps = _scatter(outcomes)
        infos: dict[str, Any] = {}
        for row in range(self.num_envs):
            infos = self._add_info(infos, self._info(self._episodes, row, steps.taken if count else None), row)
        obs = observation(self.world, steps.frames, steps.poses)
        return obs, steps.rewards, steps.terminated, steps.truncated, infos


class HubRow(gym.Wrapper[Any, Any, Any, Any]):
    """One environment as a row of a vector, with `HubVectorEnv`'s camera name and its standing still.

    A vector's autoreset calls `reset()` without any argument, a user's reset names them all: that tells them apart.
    Standing still under next-step autoreset, the vector shows the flags at every other step only.
    """

    def __init__(self, env: gym.Env[Any, Any], camera: str | None = None) -> None:
        super().__init__(env)
        self.camera = camera
        if camera is not None:
            self.observation_space = _named_space(env.observation_space, camera)
        self._standing = False
        self._last: tuple[Any, float, bool, bool, dict[str, Any]] | None = None

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:  # type: ignore[override]
        """As the environment's; standing still, an autoreset repeats the last observation and info."""
        if not kwargs and self._standing and self._last is not None:
            return self._last[0], self._last[-1]
        if kwargs:
            options = dict(kwargs.get("options") or {})
            self._standing = bool(options.pop(NEW_ROLLOUT, False))
            kwargs["options"] = options
        self._last = None
        obs, info = self.env.reset(**kwargs)
        return _named(obs, self.camera), info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """As the environment's; standing still, the last step is repeated with reward 0."""
        if self._standing and self._last is not None:
            return self._last
        obs, reward, terminated, truncated, info = self.env.step(action)
        obs = _named(obs, self.camera)
        if terminated or truncated:
            self._last = (obs, 0.0, terminated, truncated, info)
        return obs, float(reward), terminated, truncated, info


def _learned(n_envs: int, task: str, config: HubConfig) -> HubVectorEnv:
    return HubVectorEnv(
        n_envs,
        camera=config.camera,
        task=task,
        world_model=config.world_model,
        judge=config.judge,
        trust=config.trust,
        max_episode_steps=config.max_episode_steps,
        autoreset_mode=config.autoreset_mode,
    )


def _twin(n_envs: int, use_async_envs: bool, task: str, config: HubConfig) -> VectorEnv:
    from wfm_sim.envs.twin import TabletopMuJoCoEnv  # MuJoCo is loaded only where the twin is wanted

    size, steps, camera = config.image_size, config.max_episode_steps, config.camera

    def row() -> gym.Env[Any, Any]:
        twin = TabletopMuJoCoEnv(task=task, image_size=size, max_episode_steps=steps, render_mode="rgb_array")
        return HubRow(twin, camera)

    if use_async_envs and n_envs > 1:
        # A renderer does not survive a fork.
        return AsyncVectorEnv([row] * n_envs, context="spawn", autoreset_mode=config.autoreset_mode)
    return SyncVectorEnv([row] * n_envs, autoreset_mode=config.autoreset_mode)


def _names(kind: str, given: Any, known: tuple[str, ...]) -> list[str]:
    """Names out of a list or a string with commas, in the order given, each once."""
    parts = given.split(",") if isinstance(given, str) else list(given)
    names = list(dict.fromkeys(str(part).strip() for part in parts if str(part).strip()))
    if not names:
        raise UserError(f"name at least one {kind}: {', '.join(known)}")
    for name in names:
        if name not in known:
            raise unknown(kind, name, known)
    return names


def _named(obs: Any, camera: str | None) -> Any:
    return obs if camera is None else {**obs, "pixels": {camera: obs["pixels"]}}


def _named_space(space: Any, camera: str) -> gym.spaces.Dict:
    return gym.spaces.Dict({**space.spaces, "pixels": gym.spaces.Dict({camera: space["pixels"]})})
