"""`wfm_sim/ActionWorld-v0`: any action-conditioned world model behind any start frame.

env = gym.make("wfm_sim/ActionWorld-v0", world_model="runs/bridge", dataset="datasets/bridge")
env = gym.make("wfm_sim/ActionWorld-v0", world_model="predict2.5-2b-action", checkpoint="weights/", dataset=...)
obs, info = env.reset(options={"episode": 3, "frame": 10})     # a recorded frame
obs, info = env.reset(options={"image": image})                # uint8 [H, W, 3], resized with info["notice"]
for action in recorded_actions:
    obs, reward, terminated, truncated, info = env.step(action)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from wfm_sim.actions import Workspace
from wfm_sim.envs.core import Judges, Rules, Trusts
from wfm_sim.envs.single import ImaginedEnv, pose_space
from wfm_sim.envs.starts import Starts
from wfm_sim.envs.vector import ImaginedVectorEnv
from wfm_sim.envs.worlds import DEFAULT_MODEL, DEFAULT_TRUST, MAX_EPISODE_STEPS, make_world
from wfm_sim.world_model import WorldModel

# A pose may drift this far and no further (metres, radians): wide enough for any arm, finite for the spaces' sake.
ANYWHERE = Workspace(low=(-10.0, -10.0, -10.0, -np.pi, -np.pi, -np.pi), high=(10.0, 10.0, 10.0, np.pi, np.pi, np.pi))


def _parts(
    world_model: str | Path | WorldModel = DEFAULT_MODEL,
    dataset: str | Path | None = None,
    task: str | None = None,
    judge: str | Path | Judges | None = None,
    terminate_on_success: bool = True,
    success_threshold: float = 0.5,
    success_frames: int = 2,
    max_episode_steps: int = MAX_EPISODE_STEPS,
    checkpoint: str | Path | None = None,
    model_options: dict[str, Any] | None = None,
    trust: str | Path | Trusts | None = DEFAULT_TRUST,
) -> dict[str, Any]:
    """World, starts and observation space, shared by the single and the vector environment."""
    rules = Rules(max_episode_steps, terminate_on_success, success_threshold, success_frames, ANYWHERE)
    world = make_world(world_model, judge, rules, checkpoint, model_options, trust)
    height, width = world.model.spec.frame_size
    # Scenes of the twin are a sensible default only for frames of the twin's size, and where no data set was named.
    twin = dataset is None and world.has_pose and height == width and 64 <= height <= 128
    starts = Starts((height, width), task, twin, dataset)
    space = pose_space(world, np.array([*ANYWHERE.low, 0.0]), np.array([*ANYWHERE.high, 1.0]))
    return {"world": world, "starter": starts, "observation_space": space}


class ActionWorldEnv(ImaginedEnv):
    """An action-conditioned world model as an environment.

    Observation:
        pixels: uint8 [H, W, 3], the model's frame size.
        agent_pos: float32 [7], the gripper's pose by dead reckoning from the start; only where the model is driven by
            canonical robot actions (wfm_sim/actions.py).
    Action:
        float32 [A] in the model's own box and units (`world_model.spec`), clipped to it; [n, A] for a model that
        imagines n > 1 frames per step.
    Reward and success:
        0 and False, unless a judge is given and the episode has a task and a target colour it knows; then as in
        Tabletop-v0.
    Info:
        is_success, instruction; task, target_colour, progress where there is a judge and a task; episode and frame, or
        scene_seed and layout, by the start; notice where an image was resized to the model's frame size; model_notice
        where there is something to know of the model (random weights).

    Reset options (they exclude each other):
        {"episode": i, "frame": t}: a frame of `dataset`; t = 0 if left out. Without options the seed draws
            an episode.
        {"image": uint8 [H, W, 3]} with, if known, "agent_pos" [7], "task", "target_colour", "instruction".
        none of them and no `dataset`: the twin's scene of this seed, for models with square frames of 64..128 pixels.
    """

    def __init__(
        self,
        world_model: str | Path | WorldModel = DEFAULT_MODEL,
        dataset: str | Path | None = None,
        task: str | None = None,
        judge: str | Path | Judges | None = None,
        render_mode: str | None = None,
        terminate_on_success: bool = True,
        success_threshold: float = 0.5,
        success_frames: int = 2,
        max_episode_steps: int = MAX_EPISODE_STEPS,
        checkpoint: str | Path | None = None,
        model_options: dict[str, Any] | None = None,
        trust: str | Path | Trusts | None = DEFAULT_TRUST,
    ) -> None:
        """Make the environment.

        Args:
            world_model: The name of a shipped model ('nano-tabletop') or of a published one ('predict2.5-2b-action',
                see `wfm-sim models`), the path of a world model file, or a `WorldModel`.
            dataset: A folder of recorded episodes.
            task: What a start that names no task is about: 'push', 'pick', 'place' or, for twin scenes, 'any'.
            judge: 'nano-tabletop-judge', a path, a judge, or None.
            render_mode: 'rgb_array' or None.
            terminate_on_success, success_threshold, success_frames, max_episode_steps: As in Tabletop-v0.
            checkpoint: Weights of a published model: a file, a folder with its repository, or "random" (for plumbing
                and speed; every info then says so). None looks in the local hub cache; nothing is downloaded.
            model_options: device, dtype, frame_size, steps or guidance of a published model
                (`wfm_sim.models.simulators.load_simulator`).
            trust: 'auto' (the shipped one for these very weights, where there is one), a path, a trust, or None; as
                in Tabletop-v0.

        Raises:
            UserError: an unknown name, an absent file (it says which and where it was looked for) or an unreadable
                one, or a model that is not driven by actions.
        """
        parts = _parts(
            world_model,
            dataset,
            task,
            judge,
            terminate_on_success,
            success_threshold,
            success_frames,
            max_episode_steps,
            checkpoint,
            model_options,
            trust,
        )
        super().__init__(**parts, render_mode=render_mode)


class ActionWorldVectorEnv(ImaginedVectorEnv):
    """`num_envs` rows of one world in one batch; arguments as `ActionWorldEnv`, autoreset as `ImaginedVectorEnv`."""

    def __init__(
        self,
        num_envs: int = 1,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_envs, **_parts(**kwargs), render_mode=render_mode, autoreset_mode=autoreset_mode)
