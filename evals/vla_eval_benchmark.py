"""The tabletop as a benchmark of vla-eval (allenai/vla-evaluation-harness, `pip install wfm-sim[vla-eval]`).

In a config of vla-eval (evals/configs/vla_eval_tabletop.yaml is one):

    benchmarks:
      - benchmark: "wfm_sim.evals.vla_eval_benchmark:TabletopBenchmark"
        params: {world: model, seed: 0}                       # or world: twin

Only this module and vla_eval_server.py import vla_eval. The interface is that of version 0.8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from wfm_sim.actions import ACTION_DIM, ACTION_HIGH, ACTION_LOW
from wfm_sim.assets.tabletop import TASKS
from wfm_sim.errors import UserError, unknown
from wfm_sim.evals.jobs import FIRST_SEED, MODEL, SEEDS_PER_SET, TWIN

try:
    from vla_eval.benchmarks.base import StepBenchmark, StepResult
    from vla_eval.render import configure_mujoco_render
    from vla_eval.specs import IMAGE_RGB, LANGUAGE, DimSpec
except ModuleNotFoundError as error:
    raise UserError("vla-eval is not installed: pip install 'wfm-sim[vla-eval]'") from error

WORLDS = (MODEL, TWIN)
# What episodes tell a policy that asks for it (`send_layout`), as in the info of the environment's reset.
PRIVILEGED = ("layout", "task", "target_colour")

# What the action means. Formats that vla-eval has no name for get one of ours, so that it warns about a policy that
# declares another; a policy of ours declares these (vla_eval_server.py).
ACTION_SPEC = {
    "position": DimSpec(
        "position",
        3,
        "delta_xyz_gripper_frame_metres",
        (float(ACTION_LOW[0]), float(ACTION_HIGH[0])),
        description="displacement of the gripper in its own frame before the step, metres, at 5 Hz",
    ),
    "rotation": DimSpec(
        "rotation",
        3,
        "delta_euler_xyz_gripper_frame",
        (float(ACTION_LOW[3]), float(ACTION_HIGH[3])),
        description="roll, pitch, yaw of R = Rz Ry Rx in the gripper's frame before the step, radians",
    ),
    "gripper": DimSpec("gripper", 1, "continuous_open_01", (0.0, 1.0), description="command: 1 = open, 0 = closed"),
}
STATE_SPEC = DimSpec(
    "state",
    7,
    "eef_pos3_euler3_gripper1",
    description="commanded pose: x, y, z (m, base), roll, pitch, yaw, 1 = open",
)
PRIVILEGED_SPEC = DimSpec("privileged", 0, "tabletop_layout", description="where things were at reset, task, colour")


class TabletopBenchmark(StepBenchmark):  # type: ignore[misc]
    """Push, pick and place on the tabletop, in the learned simulator or in its physics twin.

    Observation: images {camera: uint8 [H, W, 3]}, task_description, and on request states float32 [7] and privileged.
    Action: {"actions": 7 numbers}, canonical (wfm_sim/actions.py), clipped to the action box by the environment.
    Episode i of every task is the scene of `wfm-sim eval`'s i-th episode with this seed, in both worlds. Success is the
    judge's in the learned simulator and the physics' in the twin, and ends the episode.
    Recorded per step: action, state, reward, progress, success, done, and trust where the environment gives it.
    """

    _ALL_RECORD_FIELDS = frozenset({"action", "state", "reward", "progress", "success", "done", "trust"})
    render_backends = frozenset({"gpu", "cpu"})

    def __init__(
        self,
        world: str = "model",
        tasks: str | Sequence[str] = TASKS,
        seed: int = 0,
        world_model: str | None = None,
        judge: str | None = None,
        trust: str | None = None,
        max_episode_steps: int | None = None,
        camera: str = "agentview",
        send_state: bool = False,
        send_layout: bool = False,
    ) -> None:
        """Make the environment.

        Args:
            world: "model" (the learned simulator) or "twin" (MuJoCo).
            tasks: Some of push, pick and place.
            seed: Chooses the scenes.
            world_model, judge, trust: Of the learned simulator: a shipped one's name or a path; None: the shipped ones.
            max_episode_steps: Truncation; None: the environment's own.
            camera: The image's name.
            send_state: Add the commanded pose; servers ask for it by themselves.
            send_layout: Add what scripted experts need to know of the scene; servers ask for it by themselves.

        Raises:
            UserError: an unknown name, or an option that goes with the learned simulator only.
        """
        super().__init__()
        if world not in WORLDS:
            raise unknown("world", world, WORLDS)
        self.tasks = [tasks] if isinstance(tasks, str) else list(tasks)
        for task in self.tasks:
            if task not in TASKS:
                raise unknown("task", task, TASKS)
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise UserError(f"seed must be a whole number from 0 up, not {seed!r}")
        given = {"world_model": world_model, "judge": judge, "trust": trust, "max_episode_steps": max_episode_steps}
        options = {name: value for name, value in given.items() if value is not None}
        if world == TWIN and options.keys() - {"max_episode_steps"}:
            raise UserError("world_model, judge and trust belong to world 'model', not to the twin")
        self.world, self.seed, self.camera = world, seed, camera
        self.send_state, self.send_layout = send_state, send_layout
        self._env: Any = _environment(world, options)
        self._info: dict[str, Any] = {}

    @classmethod
    def configure_render(cls, mode: str) -> dict[str, str]:
        """`render: cpu` renders with OSMesa."""
        return dict(configure_mujoco_render(mode))

    def get_tasks(self) -> list[dict[str, Any]]:
        """One entry per task; suite is the world, so that `tasks: [twin]` in a config picks all of one world."""
        return [{"name": task, "suite": self.world} for task in self.tasks]

    def reset(self, task: dict[str, Any]) -> dict[str, Any]:
        """Begin episode `task["episode_idx"]` of `task["name"]`; returns the environment's observation."""
        index = int(task.get("episode_idx", 0))
        if not 0 <= index < SEEDS_PER_SET:
            raise UserError(f"episodes are numbered 0..{SEEDS_PER_SET - 1}, not {index}; use another seed for more")
        scene = FIRST_SEED + SEEDS_PER_SET * self.seed + index
        obs, self._info = self._env.reset(seed=scene, options={"task": task["name"]})
        self._recorder.record_video(obs["pixels"])
        return dict(obs)

    def step(self, action: dict[str, Any]) -> StepResult:
        """Take one action; a chunk must have been unrolled by the server, as vla-eval's servers do."""
        given = action.get("actions", action.get("action"))
        if given is None:
            raise UserError(f"the server's answer has no 'actions', only {sorted(map(str, action))}")
        obs, reward, terminated, truncated, self._info = self._env.step(given)
        done, executed = bool(terminated or truncated), np.asarray(given, np.float32)
        row = {"action": executed, "state": obs["agent_pos"], "reward": float(reward), "done": done}
        row |= {"progress": float(self._info["progress"]), "success": bool(self._info["is_success"])}
        if "trust" in self._info:
            row["trust"] = float(self._info["trust"])
        self._recorder.record_video(obs["pixels"])
        self._recorder.record_step(**row)
        return StepResult(obs=dict(obs), reward=float(reward), done=done, info=self._info)

    def make_obs(self, raw_obs: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
        """What is sent to the policy server."""
        sent: dict[str, Any] = {
            "images": {self.camera: raw_obs["pixels"]},
            "task_description": self._env.task_description,
        }
        if self.send_state:
            sent["states"] = raw_obs["agent_pos"]
        if self.send_layout:
            sent["privileged"] = {name: self._info[name] for name in PRIVILEGED}
            sent["seed"] = int(self._info["scene_seed"])
        return sent

    def get_step_result(self, step_result: StepResult) -> dict[str, Any]:
        """success, progress 0..1, the scene's seed and, where the environment gives it, the lowest trust."""
        info = step_result.info or self._info
        result = {"success": bool(info["is_success"]), "progress": float(info["progress"])}
        result["scene_seed"] = int(info["scene_seed"])
        return result | ({"trust_lowest": float(info["trust_lowest"])} if "trust_lowest" in info else {})

    def get_metric_keys(self) -> dict[str, str]:
        """How vla-eval aggregates the results; what no episode has is left out."""
        return {"success": "mean", "progress": "mean", "trust_lowest": "mean"}

    def get_metadata(self) -> dict[str, Any]:
        """max_steps, which vla-eval counts to by itself, and how many scenes a seed has."""
        steps = self._env._max_episode_steps
        return {"max_steps": steps, "max_episodes_per_task": SEEDS_PER_SET, "suite": self.world}

    def get_action_spec(self) -> dict[str, DimSpec]:
        """See ACTION_SPEC."""
        return dict(ACTION_SPEC)

    def get_observation_spec(self) -> dict[str, DimSpec]:
        """What `make_obs` sends."""
        spec = {self.camera: IMAGE_RGB, "language": LANGUAGE}
        spec |= {"state": STATE_SPEC} if self.send_state else {}
        return spec | ({"privileged": PRIVILEGED_SPEC} if self.send_layout else {})

    def get_hold_action(self, last_action: dict[str, Any] | None) -> dict[str, Any]:
        """For vla-eval's live mode: stand still, the gripper as it was last commanded."""
        actions = np.zeros(ACTION_DIM, dtype=np.float32)
        last = None if last_action is None else last_action.get("actions", last_action.get("action"))
        actions[-1] = 1.0 if last is None else float(np.asarray(last).ravel()[ACTION_DIM - 1])
        return {"actions": actions}

    def render(self) -> np.ndarray | None:
        """The latest frame, uint8 [H, W, 3]."""
        return None if self._last_result.obs is None else self._last_result.obs["pixels"]

    def cleanup(self) -> None:
        """Close the environment."""
        self._env.close()


def _environment(world: str, options: dict[str, Any]) -> Any:
    """Only what is wanted is loaded. Not through gymnasium.make, which would keep max_episode_steps to itself."""
    if world == TWIN:
        from wfm_sim.envs.twin import TabletopMuJoCoEnv

        return TabletopMuJoCoEnv(**options)
    from wfm_sim.envs.tabletop import TabletopEnv

    return TabletopEnv(**options)
