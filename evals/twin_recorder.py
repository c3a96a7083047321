"""Records held-out episodes in the physics twin, with what the segmentation says about every block."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from wfm_sim import actions
from wfm_sim.assets import tabletop, tabletop_sim, widowx
from wfm_sim.assets.tabletop import TASKS
from wfm_sim.envs import twin
from wfm_sim.envs.twin import ObjectView, TabletopMuJoCoEnv
from wfm_sim.evals.contestants import make_policy
from wfm_sim.evals.heldout import HeldOut, Plan
from wfm_sim.policies import scripted, simple
from wfm_sim.policies.base import batch_of_one

# Three that mostly succeed, three that mostly do not: both outcomes are well represented.
POLICIES = ("expert", "expert-noise0.4", "expert-flawed", "expert-noise0.2", "random", "expert-noise0.8")


def tabletop_plan(steps: int = 24, size: int = 64) -> Plan:
    """The held-out episodes of the nano gates."""
    return Plan(tasks=TASKS, policies=POLICIES, steps=steps, size=size, fingerprint=_fingerprint())


def _fingerprint() -> str:
    """Changes with the source of the twin or of the policies, so that no episode of another twin is ever taken."""
    modules = (actions, tabletop, tabletop_sim, widowx, twin, scripted, simple)
    sources = [Path(str(module.__file__)).read_bytes() for module in modules]
    return hashlib.sha256(b"".join(sources)).hexdigest()[:12]


class TwinRecorder:
    """A `heldout.Recorder`: (seed, task, policy) -> HeldOut. The twin is made at the first call."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._twin: TabletopMuJoCoEnv | None = None

    def __call__(self, seed: int, task: str, policy: str) -> HeldOut:
        if self._twin is None:
            self._twin = TabletopMuJoCoEnv(
                image_size=self.plan.size, terminate_on_success=False, max_episode_steps=self.plan.steps
            )
        env, actor = self._twin, make_policy(policy)
        observation, info = env.reset(seed=seed, options={"task": task})
        actor.reset(batch_of_one(info), [seed])
        seen: list[tuple[dict[str, Any], dict[str, Any], list[ObjectView]]] = [(observation, info, env.object_views())]
        taken = []
        for _ in range(self.plan.steps):
            taken.append(actor.act(batch_of_one(observation))[0])
            observation, _, _, _, info = env.step(taken[-1])
            seen.append((observation, info, env.object_views()))
        poses = np.stack([o["agent_pos"] for o, _, _ in seen]).astype(np.float32)
        return HeldOut(
            seed=seed,
            policy=policy,
            task=task,
            target_colour=info["target_colour"],
            instruction=info["instruction"],
            colours=tuple(view.colour for view in seen[0][2]),
            frames=np.stack([o["pixels"] for o, _, _ in seen]),
            actions=actions.actions_from_states(poses, np.stack(taken)[:, 6]),
            poses=poses,
            objects=np.array([[_row(view) for view in views] for _, _, views in seen], dtype=np.float32),
            success=np.array([i["is_success"] for _, i, _ in seen], dtype=bool),
            progress=np.array([i["progress"] for _, i, _ in seen], dtype=np.float32),
        )

    def close(self) -> None:
        """Close the twin, if one was made."""
        if self._twin is not None:
            self._twin.close()
            self._twin = None


def _row(view: ObjectView) -> tuple[float, float, float]:
    return (*view.centroid, float(view.visible_area)) if view.visible_area else (0.0, 0.0, 0.0)
