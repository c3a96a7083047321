"""`wfm_sim/Tabletop-v0`: the tabletop as a learned simulator. Every frame after the first is imagined.

import gymnasium as gym, wfm_sim
env = gym.make("wfm_sim/Tabletop-v0", task="push")
obs, info = env.reset(seed=0)                                  # the first frame of the twin's scene 0
obs, reward, terminated, truncated, info = env.step(env.action_space.sample())

envs = gym.make_vec("wfm_sim/Tabletop-v0", num_envs=16)        # one world-model call per step for all 16
obs, infos = envs.reset(seed=0)                                # row i is the single environment of seed i
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from wfm_sim.assets.tabletop import WORKSPACE
from wfm_sim.envs.core import Judges, Rules, Trusts
from wfm_sim.envs.single import ImaginedEnv, pose_space
from wfm_sim.envs.starts import Starts
from wfm_sim.envs.vector import ImaginedVectorEnv
from wfm_sim.envs.worlds import DEFAULT_JUDGE, DEFAULT_MODEL, DEFAULT_TRUST, MAX_EPISODE_STEPS, make_world
from wfm_sim.errors import UserError
from wfm_sim.world_model import WorldModel


def _parts(
    task: str = "any",
    world_model: str | Path | WorldModel = DEFAULT_MODEL,
    judge: str | Path | Judges | None = DEFAULT_JUDGE,
    dataset: str | Path | None = None,
    terminate_on_success: bool = True,
    success_threshold: float = 0.5,
    success_frames: int = 2,
    max_episode_steps: int = MAX_EPISODE_STEPS,
    trust: str | Path | Trusts | None = DEFAULT_TRUST,
) -> dict[str, Any]:
    """World, starts and observation space, shared by the single and the vector environment."""
    rules = Rules(max_episode_steps, terminate_on_success, success_threshold, success_frames, WORKSPACE)
    world = make_world(world_model, judge, rules, trust=trust)
    height, width = world.model.spec.frame_size
    if not world.has_pose or height != width or not 64 <= height <= 128:
        raise UserError(
            f"{world.model.spec.name!r} is no model of the tabletop (square frames of 64..128 pixels, 7-dim robot "
            "actions); wfm_sim/ActionWorld-v0 takes any action-conditioned model"
        )
    starts = Starts((height, width), task, twin=True, dataset=dataset)
    space = pose_space(world, np.array([*WORKSPACE.low, 0.0]), np.array([*WORKSPACE.high, 1.0]))
    return {"world": world, "starter": starts, "observation_space": space}


class TabletopEnv(ImaginedEnv):
    """The imagined tabletop, with the spaces, tasks, seeds, instructions and reward of its twin TabletopMuJoCo-v0.

    Observation:
        pixels: uint8 [64, 64, 3] (the model's frame size), imagined.
        agent_pos: float32 [7], the commanded gripper pose by dead reckoning: x, y, z [m], roll, pitch, yaw [rad],
            gripper (1 = open).
    Action:
        float32 [7] (wfm_sim/actions.py), clipped to the box.
    Reward:
        The gain in progress since the last step, plus 1 in each step that ends in success, both as the pixel judge
        (wfm_sim/judge.py) sees them.
    Success (`info["is_success"]`):
        The judge's probability was above `success_threshold` on `success_frames` successive frames, so that one
        misjudged frame ends nothing. It terminates the episode where `terminate_on_success`.
    Info:
        task, target_colour, instruction, is_success, progress; scene_seed and layout as the twin gives them, where they
        are known; episode and frame of a recorded start; notice where an image was resized. Where there is a trust
        network for the model (docs/trust.md): trust, the probability that this frame is within tolerance of the truth,
        trust_horizon, that the next five will be, and trust_lowest, the least trust of the episode so far.

    `reset(seed=s)` begins at the twin's first frame of scene s, and s also seeds the world model's noise. Options:
        {"task": name}: another task in this episode.
        {"episode": i, "frame": t}: a frame of `dataset`, task and target as recorded.
        {"image": uint8 [H, W, 3], "agent_pos": [7], "task": ..., "target_colour": ..., "instruction": ...}: an image;
            all but the image may be left out (without a task and a colour nothing is judged).
    """

    def __init__(
        self,
        task: str = "any",
        world_model: str | Path | WorldModel = DEFAULT_MODEL,
        judge: str | Path | Judges | None = DEFAULT_JUDGE,
        dataset: str | Path | None = None,
        render_mode: str | None = None,
        terminate_on_success: bool = True,
        success_threshold: float = 0.5,
        success_frames: int = 2,
        max_episode_steps: int = MAX_EPISODE_STEPS,
        trust: str | Path | Trusts | None = DEFAULT_TRUST,
    ) -> None:
        """Make the environment.

        Args:
            task: 'push', 'pick', 'place', or 'any' (each seed draws one).
            world_model: A preset's name, the path of a checkpoint, or a `WorldModel`.
            judge: 'nano-tabletop-judge', a path, a judge, or None (no success, reward 0).
            dataset: A folder of recorded episodes for options["episode"].
            render_mode: 'rgb_array' or None.
            terminate_on_success, success_threshold, success_frames: See above.
            max_episode_steps: Truncate after so many steps.
            trust: 'auto' (the shipped one for the model, where there is one), a path, a trust, or None.

        Raises:
            UserError: an unknown name, an unreadable file, or a number out of range.
        """
        parts = _parts(
            task,
            world_model,
            judge,
            dataset,
            terminate_on_success,
            success_threshold,
            success_frames,
            max_episode_steps,
            trust,
        )
        super().__init__(**parts, render_mode=render_mode)


class TabletopVectorEnv(ImaginedVectorEnv):
    """`num_envs` imagined tabletops in one batch; arguments as `TabletopEnv`, autoreset as `ImaginedVectorEnv`."""

    def __init__(
        self,
        num_envs: int = 1,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_envs, **_parts(**kwargs), render_mode=render_mode, autoreset_mode=autoreset_mode)
