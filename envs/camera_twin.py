"""`wfm_sim/CameraWorldMuJoCo-v0`: walk through a furnished room; the twin that imagined places are judged against.

    env = gym.make("wfm_sim/CameraWorldMuJoCo-v0")
    obs, info = env.reset(seed=0)                                  # room 0, where its walk begins
    obs, reward, terminated, truncated, info = env.step([0, 0, 0.1, 0, 0.05, 0])   # forward, and to the right
    info["camera_pose"], info["camera_intrinsics"], info["blocked"]

Observations and actions are described at `CameraWorldMuJoCoEnv`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from wfm_sim.assets.rooms import Room, build_room, walk
from wfm_sim.camera import MOTION_DIM, MOTION_HIGH, MOTION_LOW, MOTION_UNITS, Intrinsics, camera_info, check_pose, move
from wfm_sim.envs.checks import check_render_mode
from wfm_sim.envs.rooms import RoomRenderer
from wfm_sim.errors import UserError, unknown

MAX_EPISODE_STEPS = 200
MAX_DRAWN_SEED = 2**31 - 1  # the largest seed drawn by a reset without one
CLEARANCE = 0.12  # metres that a camera keeps from everything; the near plane is at 0.03
RATE_HZ = 10
OPTIONS = ("room", "pose")
_room = lru_cache(maxsize=4)(build_room)  # resets go back to rooms, and an imagined world and its twin begin in one


class CameraWorldMuJoCoEnv(gym.Env[dict[str, Any], NDArray[np.float32]]):
    """A camera that is moved through a room, at 10 Hz. Rendering is by MuJoCo; nothing but the camera moves.

    Observation:
        pixels: uint8 [H, W, 3], `image_size`, a pinhole with `vertical_fov`.
    Action:
        float32 [6] in the box MOTION_LOW..MOTION_HIGH of wfm_sim/camera.py (clipped to it), in the camera's own axes:
        translation right, down, forward [m], rotation vector about them [rad] (pitch up, yaw right, roll clockwise).
        A translation into furniture or through a wall is not done (the rotation is), and info["blocked"] says so.
    Reward and success:
        0 and False: walking has no task. An episode is truncated after `max_episode_steps`.
    Info:
        camera_pose: float64 [4, 4], camera to world, OpenCV axes; the world's z is up, its origin the floor's middle.
        camera_intrinsics: float64 [4], fx, fy, cx, cy in pixels.
        room (int), blocked, is_success, and depth, float32 [H, W], metres along the axis, if `depth`.
    Reset options:
        {"room": int}: that room instead of the seed's; the seed draws where in it the episode begins.
        {"pose": [4, 4]}: begin there, in info["camera_pose"]'s terms.

    The same seed and actions give the same frames to the bit on one machine.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": RATE_HZ}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(
        self,
        image_size: tuple[int, int] = (96, 128),
        vertical_fov: float = 60.0,
        render_mode: str | None = None,
        depth: bool = False,
        max_episode_steps: int = MAX_EPISODE_STEPS,
    ) -> None:
        """Make the environment.

        Args:
            image_size: (height, width) of the frames, 16..2048 pixels.
            vertical_fov: In degrees, 10..120.
            render_mode: 'rgb_array' or None.
            depth: Whether `info` has the depth.
            max_episode_steps: Truncate after so many steps.

        Raises:
            UserError: an unknown render mode, or a number out of range.
        """
        try:
            height, width = (int(side) for side in image_size)
        except (TypeError, ValueError):
            raise UserError(f"image_size must be (height, width) in pixels, not {image_size!r}") from None
        if not 16 <= min(height, width) <= max(height, width) <= 2048:
            raise UserError(f"image_size must be 16 to 2048 pixels a side, not {height}x{width}")
        if not 10 <= vertical_fov <= 120:
            raise UserError(f"vertical_fov must be 10 to 120 degrees, not {vertical_fov}")
        if max_episode_steps < 1:
            raise UserError(f"max_episode_steps must be at least 1, not {max_episode_steps}")
        check_render_mode(render_mode, self.metadata["render_modes"])
        self.render_mode = render_mode
        self.image_size, self.vertical_fov, self.depth = (height, width), float(vertical_fov), depth
        self.intrinsics = Intrinsics.of_fov(self.vertical_fov, self.image_size)
        self._max_episode_steps = max_episode_steps
        self.observation_space = spaces.Dict({"pixels": spaces.Box(0, 255, (height, width, 3), np.uint8)})
        self.action_space = spaces.Box(MOTION_LOW, MOTION_HIGH, dtype=np.float32)
        self._renderer: RoomRenderer | None = None
        self._pose = np.eye(4)
        self._frame = np.zeros((height, width, 3), np.uint8)
        self._depth = np.zeros((height, width), np.float32)
        self._steps = 0

    @property
    def room(self) -> Room:
        """The room of the running episode."""
        return self._current().room

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Begin an episode in the room `seed` (without one the generator draws it), where a walk of this seed begins.

        Raises:
            UserError: an unknown option, a room that is no number from 0, or a pose that is none or not in free space.
        """
        super().reset(seed=seed)
        options = options or {}
        for name in options:
            if name not in OPTIONS:
                raise unknown("reset option", name, OPTIONS)
        seed = int(self.np_random.integers(MAX_DRAWN_SEED)) if seed is None else int(seed)
        number = options.get("room", seed)
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 0:
            raise UserError(f"options['room'] must be a number from 0, not {number!r}")
        room = self._enter(int(number))
        if "pose" in options:
            pose = check_pose(options["pose"], "options['pose']")
            if pose.shape != (4, 4) or room.clearance(pose[:3, 3])[0] < CLEARANCE:
                raise UserError(
                    f"options['pose'] must be one pose [4, 4] at least {CLEARANCE} m from everything in room "
                    f"{number}, not {list(pose.shape)} at {np.round(pose[..., :3, 3], 2).tolist()}"
                )
            self._pose = pose.copy()
        else:
            self._pose = walk(room, seed)[0]
        self._steps = 0
        self._look()
        return self._observation(), self._info(blocked=False)

    def step(self, action: ArrayLike) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Move the camera.

        Raises:
            UserError: the action is not 6 finite numbers, or the environment was not reset.
        """
        motion = check_motion(action)
        room = self.room
        ahead = move(self._pose, np.clip(motion, MOTION_LOW, MOTION_HIGH))
        here, there = self._pose[:3, 3], ahead[:3, 3]
        # also where it comes through: a step is longer than a board is thick
        blocked = bool((room.clearance(here + np.linspace(0.2, 1, 5)[:, None] * (there - here)) < CLEARANCE).any())
        if blocked:
            ahead[:3, 3] = here
        self._pose = ahead
        self._steps += 1
        self._look()
        return self._observation(), 0.0, False, self._steps >= self._max_episode_steps, self._info(blocked)

    def render(self) -> NDArray[np.uint8] | None:
        """The current frame, uint8 [H, W, 3], or None without a render mode."""
        if self.render_mode is None:
            return None
        self._current()
        return self._frame.copy()

    def close(self) -> None:
        """Free the renderer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _current(self) -> RoomRenderer:
        if self._renderer is None:
            raise UserError("call reset before using the environment")
        return self._renderer

    def _enter(self, number: int) -> Room:
        """The room with a renderer; the last one is kept, for it takes half a second to build."""
        if self._renderer is None or self._renderer.room.seed != number:
            room = _room(number)
            self.close()
            self._renderer = RoomRenderer(room, self.image_size, self.vertical_fov)
        return self._renderer.room

    def _look(self) -> None:
        self._frame, self._depth = self._current().render(self._pose)

    def _observation(self) -> dict[str, NDArray[Any]]:
        return {"pixels": self._frame.copy()}

    def _info(self, blocked: bool) -> dict[str, Any]:
        info = camera_info(self._pose, self.intrinsics)
        info |= {"room": self.room.seed, "blocked": blocked, "is_success": False}
        if self.depth:
            info["depth"] = self._depth.copy()
        return info


def check_motion(motion: ArrayLike) -> NDArray[np.float64]:
    """A camera motion as float64 [6].

    Raises:
        UserError: it is not 6 finite numbers.
    """
    try:
        array = np.asarray(motion, np.float64)
    except (TypeError, ValueError):
        raise UserError(f"a camera motion must be {MOTION_DIM} numbers, not {motion!r}") from None
    if array.shape != (MOTION_DIM,):
        raise UserError(f"a camera motion must be [{MOTION_DIM}] ({', '.join(MOTION_UNITS)}), not {list(array.shape)}")
    if not np.isfinite(array).all():
        raise UserError(f"a camera motion must be finite, not {array.tolist()}")
    return array
