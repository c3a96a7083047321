"""`wfm_sim/CameraWorld-v0`: a picture becomes a place that one walks through; every frame is imagined.

env = gym.make("wfm_sim/CameraWorld-v0")
obs, info = env.reset(seed=0)                                  # the first frame of the twin's room 0
obs, info = env.reset(options={"image": "kitchen.jpg", "fov": 65.0})
obs, reward, terminated, truncated, info = env.step([0, 0, 0.1, 0, 0.05, 0])   # 10 cm forward, 0.05 rad to the right
info["camera_pose"], info["camera_intrinsics"]                 # where the camera is now
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from wfm_sim.envs.camera_starts import CameraStarts
from wfm_sim.envs.core import Rules
from wfm_sim.envs.single import ImaginedEnv, pose_space
from wfm_sim.envs.vector import ImaginedVectorEnv
from wfm_sim.envs.worlds import make_camera_world
from wfm_sim.world_model import WorldModel

DEFAULT_CAMERA_MODEL = "nano-rooms"
MAX_CAMERA_STEPS = 200  # as the twin


def _parts(
    world_model: str | Path | WorldModel = DEFAULT_CAMERA_MODEL,
    dataset: str | Path | None = None,
    depth: bool = False,
    max_episode_steps: int = MAX_CAMERA_STEPS,
) -> dict[str, Any]:
    """World, starts and observation space, shared by the single and the vector environment."""
    world = make_camera_world(world_model, Rules(max_episode_steps))
    starts = CameraStarts(world.model.spec.frame_size, dataset, depth)
    return {"world": world, "starter": starts, "observation_space": pose_space(world, np.zeros(7), np.zeros(7))}


class CameraWorldEnv(ImaginedEnv):
    """A camera-conditioned world model as an environment, with the spaces and seeds of CameraWorldMuJoCo-v0.

    Observation:
        pixels: uint8 [H, W, 3], the model's frame size (nano-rooms: 96x128).
    Action:
        float32 [6], a relative camera motion in the camera's own axes: x right, y down, z forward (metres, at most
        0.2), and a rotation vector about them (radians, at most 0.2): pitch up > 0, yaw right > 0, roll clockwise > 0.
        `wfm_sim.envs.joystick.JoystickWrapper` turns it into buttons.
    Reward and success:
        0 and False: walking has no task. An episode ends after `max_episode_steps` by truncation.
    Info:
        camera_pose: float64 [4, 4], camera to world, OpenCV axes, metres; the world is that of the start (a room's or
            a data set's; of an image, the start camera itself).
        camera_intrinsics: float64 [4], fx, fy, cx, cy in pixels.
        room, or episode and frame, by the start; notice where an image was cut, resized or its field of view guessed;
        scale = "unknown" where a data set's lengths are no metres.

    Reset options (they exclude each other):
        {"room": int} and, if wanted, {"pose": [4, 4]}: a furnished room of the twin; without options, the seed's.
        {"episode": i, "frame": t}: a frame of `dataset`; t = 0 if left out.
        {"image": uint8 [H, W, 3] or a file} with, if known, "fov" (vertical, degrees) or "intrinsics" (pixels).
    """

    def __init__(
        self,
        world_model: str | Path | WorldModel = DEFAULT_CAMERA_MODEL,
        dataset: str | Path | None = None,
        render_mode: str | None = None,
        depth: bool = False,
        max_episode_steps: int = MAX_CAMERA_STEPS,
    ) -> None:
        """Make the environment.

        Args:
            world_model: The name of a shipped model ('nano-rooms'), the path of a world model file, or a `WorldModel`
                driven by camera motion.
            dataset: A folder of clips with cameras (DL3DV/nerfstudio, RealEstate10K, COLMAP).
            render_mode: 'rgb_array' or None.
            depth: Whether the model is told the start frame's depth, where it is known; else it reads it off the frame.
            max_episode_steps: Truncation.

        Raises:
            UserError: an unknown name, an absent or unreadable file, or a model that is not driven by a camera.
        """
        super().__init__(**_parts(world_model, dataset, depth, max_episode_steps), render_mode=render_mode)


class CameraWorldVectorEnv(ImaginedVectorEnv):
    """`num_envs` rows of one world in one batch; arguments as `CameraWorldEnv`, autoreset as `ImaginedVectorEnv`."""

    def __init__(
        self,
        num_envs: int = 1,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_envs, **_parts(**kwargs), render_mode=render_mode, autoreset_mode=autoreset_mode)
