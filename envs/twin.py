"""`wfm_sim/TabletopMuJoCo-v0`: the tabletop in real physics, the twin that the learned simulator is judged against.

    env = gym.make("wfm_sim/TabletopMuJoCo-v0", task="push")
    obs, info = env.reset(seed=0)                # the seed is the scene: colours, layout, light, camera, start pose
    obs, reward, terminated, truncated, info = env.step(env.action_space.sample())

Observations, actions, reward and success are described at `TabletopMuJoCoEnv`.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import ArrayLike, NDArray

from wfm_sim.actions import ACTION_DIM, ACTION_HIGH, ACTION_LOW, RATE_HZ, apply_action
from wfm_sim.assets.tabletop import (
    BLOCK_HALF,
    LIFT_HEIGHT,
    PLATE_HEIGHT,
    PLATE_RADIUS,
    WORKSPACE,
    ZONE_REACH,
    TabletopScene,
    check_task,
    layout_of,
    sample_scene,
)
from wfm_sim.assets.tabletop_sim import SimSnapshot, TabletopSim
from wfm_sim.errors import UserError

MAX_EPISODE_STEPS = 32
# The largest scene seed drawn by a reset without a seed.
MAX_DRAWN_SEED = 2**31 - 1


@dataclass(frozen=True)
class ObjectView:
    """One block as the camera sees it.

    Attributes:
        name: 'block0' (the target), 'block1', ...
        colour: Its colour's name in assets/tabletop.py's PALETTE.
        rgb: Its colour, 0..1, as painted (before lighting).
        centroid: (x, y) of its visible pixels, in pixels of the observation; nan where none is visible.
        visible_area: Number of visible pixels.
        position: (x, y, z) of its centre in the base frame, metres.
        yaw: Heading of its edges, radians in [-pi/4, pi/4).
    """

    name: str
    colour: str
    rgb: tuple[float, float, float]
    centroid: tuple[float, float]
    visible_area: int
    position: tuple[float, float, float]
    yaw: float


@dataclass(frozen=True)
class TwinSnapshot:
    """A moment of an episode, for `TabletopMuJoCoEnv.restore`."""

    sim: SimSnapshot
    pose: NDArray[np.float64]
    steps: int
    reach: float
    distance: float
    progress: float
    np_random: np.random.Generator


class TabletopMuJoCoEnv(gym.Env[dict[str, Any], NDArray[np.float32]]):
    """A WidowX-like arm over a table with two or three blocks, a plate and a target zone, at 5 Hz.

    Observation:
        pixels: uint8 [image_size, image_size, 3], a static camera.
        agent_pos: float32 [7], the *commanded* gripper pose (x, y, z [m], roll, pitch, yaw [rad], gripper 1 = open).
            It is the start pose with all actions integrated, which is all that the learned simulator can know;
            `info["measured_pose"]` is where physics put the gripper.
    Action:
        float32 [7] in the box ACTION_LOW..ACTION_HIGH of wfm_sim/actions.py (clipped to it): displacement in the
        gripper frame in metres and radians, and the gripper command, 1 = open.
    Reward:
        The gain in progress since the last step, plus 1 in each step that ends in success. `info["progress"]`, 0..1,
        gives up to 0.25 for reaching the block and up to 0.70 for bringing it to its goal; it is 1 on success alone.
    Success (`info["is_success"]`):
        push: the block's centre is within ZONE_REACH of the zone's along both its edges.
        pick: the block is LIFT_HEIGHT above the table and the gripper touches it.
        place: the block rests on the plate and the gripper does not touch it.
    Info:
        task, target_colour, instruction (text), is_success, progress, measured_pose float32 [7], scene_seed (int), and
        layout, see `layout_of` in assets/tabletop.py: where things were at the reset.

    The same seed and actions give the same frames to the bit on one machine, whatever the process did before.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": int(RATE_HZ)}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(
        self,
        task: str = "any",
        image_size: int = 64,
        render_mode: str | None = None,
        render_size: int | None = None,
        terminate_on_success: bool = True,
        max_episode_steps: int = MAX_EPISODE_STEPS,
    ) -> None:
        """Make the environment.

        Args:
            task: 'push', 'pick', 'place', or 'any' (each seed draws one).
            image_size: Height and width of the observed frame, 64..128 pixels.
            render_mode: 'rgb_array' or None.
            render_size: Height and width of what `render` returns, 32..1024; None: the observed frame itself.
            terminate_on_success: End the episode at its first success.
            max_episode_steps: Truncate after so many steps.

        Raises:
            UserError: an unknown task or render mode, or a number out of range.
        """
        check_task(task)
        if not 64 <= image_size <= 128:
            raise UserError(f"image_size must be 64..128 pixels, not {image_size}")
        if render_size is not None and not 32 <= render_size <= 1024:
            raise UserError(f"render_size must be 32..1024 pixels, not {render_size}")
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise UserError(f"unknown render_mode {render_mode!r}; known: 'rgb_array' or None")
        if max_episode_steps < 1:
            raise UserError(f"max_episode_steps must be at least 1, not {max_episode_steps}")
        self.task = task
        self.image_size = image_size
        self.render_mode = render_mode
        self.render_size = render_size
        self.terminate_on_success = terminate_on_success
        self._max_episode_steps = max_episode_steps
        high = np.array([*WORKSPACE.high, 1.0], dtype=np.float32)
        low = np.array([*WORKSPACE.low, 0.0], dtype=np.float32)
        self._agent_pos_space = spaces.Box(low, high, dtype=np.float32)
        frames = spaces.Box(0, 255, (image_size, image_size, 3), np.uint8)
        self.observation_space = spaces.Dict({"pixels": frames, "agent_pos": self._agent_pos_space})
        self.action_space = spaces.Box(ACTION_LOW, ACTION_HIGH, dtype=np.float32)
        self._sim = TabletopSim(image_size)
        self._scene: TabletopScene | None = None
        self._pose = np.zeros(7)
        self._steps = 0
        self._reach = self._distance = 1.0
        self._progress = 0.0
        self._frame = np.zeros((image_size, image_size, 3), np.uint8)
        self._draws = True

    @property
    def scene(self) -> TabletopScene:
        """The scene of the running episode."""
        if self._scene is None:
            raise UserError("call reset before using the environment")
        return self._scene

    @property
    def task_description(self) -> str:
        """The instruction of the running episode, '' before the first reset."""
        return self._scene.instruction if self._scene is not None else ""

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Start the episode whose scene seed is exactly `seed`; without one, the environment's generator draws it.

        Args:
            seed: The scene seed.
            options: {"task": name} asks for another task in this episode; {"pixels": False} leaves its frames black,
                for a policy that does not look: drawing them takes most of the time.
        """
        super().reset(seed=seed)
        scene_seed = int(self.np_random.integers(MAX_DRAWN_SEED)) if seed is None else int(seed)
        self._scene = sample_scene(scene_seed, (options or {}).get("task", self.task))
        self._draws = bool((options or {}).get("pixels", True))
        self._sim.load(self._scene)
        self._pose = np.array(self._scene.start)
        self._steps = 0
        block = self._sim.block_position(0)
        self._reach = float(np.linalg.norm(self._pose[:3] - block))
        self._distance = float(np.linalg.norm(self._goal() - block))
        self._progress = 0.0
        self._progress = self._measure_progress(success=False)
        return self._observation(), self._info(success=False)

    def step(self, action: ArrayLike) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """One step of 0.2 s.

        Raises:
            UserError: the action is not 7 finite numbers, or the environment was not reset.
        """
        action = check_action(action)
        self.scene  # noqa: B018 - raises before the first reset
        self._pose = apply_action(self._pose, np.clip(action, ACTION_LOW, ACTION_HIGH), WORKSPACE)
        self._sim.move_to(self._pose)
        self._steps += 1
        success = self._is_success()
        before, self._progress = self._progress, self._measure_progress(success)
        reward = self._progress - before + float(success)
        terminated = success and self.terminate_on_success
        truncated = self._steps >= self._max_episode_steps
        return self._observation(), reward, terminated, truncated, self._info(success)

    def render(self) -> NDArray[np.uint8] | None:
        """The current frame, uint8 [H, W, 3], or None without a render mode."""
        if self.render_mode is None:
            return None
        self.scene  # noqa: B018 - raises before the first reset
        return self._frame.copy() if self.render_size is None else self._sim.render(self.render_size)

    def close(self) -> None:
        """Free the renderers."""
        self._sim.close()

    def object_views(self, seen: bool = True) -> list[ObjectView]:
        """Every block of the scene as the camera sees it now, the target first.

        seen: Whether to look; without, every block counts as hidden, and nothing is drawn.
        """
        masks = self._sim.block_masks() if seen else np.zeros((len(self.scene.blocks), 0, 0), bool)
        views = []
        for i, block in enumerate(self.scene.blocks):
            rows, columns = np.nonzero(masks[i])
            centroid = (float(columns.mean()), float(rows.mean())) if len(rows) else (float("nan"), float("nan"))
            x, y, z = (float(value) for value in self._sim.block_position(i))
            yaw = self._sim.block_yaw(i)
            views.append(ObjectView(f"block{i}", block.colour, block.rgb, centroid, len(rows), (x, y, z), yaw))
        return views

    def snapshot(self) -> TwinSnapshot:
        """This moment of the episode, to come back to with `restore`."""
        self.scene  # noqa: B018 - raises before the first reset
        return TwinSnapshot(
            self._sim.snapshot(),
            self._pose.copy(),
            self._steps,
            self._reach,
            self._distance,
            self._progress,
            copy.deepcopy(self.np_random),
        )

    def restore(self, snapshot: TwinSnapshot) -> dict[str, NDArray[Any]]:
        """Go back to a snapshot (of any environment of this image size) and return its observation."""
        self._scene = snapshot.sim.scene
        self._sim.restore(snapshot.sim)
        self._pose = snapshot.pose.copy()
        self._steps, self._progress = snapshot.steps, snapshot.progress
        self._reach, self._distance = snapshot.reach, snapshot.distance
        self.np_random = copy.deepcopy(snapshot.np_random)
        return self._observation()

    def _goal(self) -> NDArray[np.float64]:
        """Where the centre of the target block should come to, [3]."""
        scene = self.scene
        if scene.task == "push":
            return np.array([*scene.zone_xy, BLOCK_HALF])
        if scene.task == "place":
            return np.array([*scene.plate_xy, PLATE_HEIGHT + BLOCK_HALF])
        return np.array([*scene.blocks[0].xy, BLOCK_HALF + LIFT_HEIGHT])

    def _is_success(self) -> bool:
        block, goal = self._sim.block_position(0), self._goal()
        if self.scene.task == "push":
            return bool(np.all(np.abs(block[:2] - goal[:2]) < ZONE_REACH) and block[2] < 2 * BLOCK_HALF)
        if self.scene.task == "pick":
            return bool(block[2] >= goal[2] and self._sim.block_touched(0))
        on_plate = np.hypot(*(block[:2] - goal[:2])) < PLATE_RADIUS and abs(block[2] - goal[2]) < 0.008
        return bool(on_plate and not self._sim.block_touched(0))

    def _measure_progress(self, success: bool) -> float:
        if success:
            return 1.0
        block, goal = self._sim.block_position(0), self._goal()
        if self.scene.task == "pick":
            goal = np.array([*block[:2], goal[2]])
        reach = float(np.linalg.norm(self._sim.measured_pose()[:3] - block)) / self._reach
        distance = float(np.linalg.norm(goal - block)) / self._distance
        # Success alone is 1: a block that is almost there, or there but not yet let go of, stays below.
        return float(0.25 * (1 - min(reach, 1.0)) + 0.70 * (1 - min(distance, 1.0)))

    def _observation(self) -> dict[str, NDArray[Any]]:
        self._frame = self._sim.render() if self._draws else np.zeros_like(self._frame)
        # float32 rounding may step over a bound by a hair.
        agent_pos = np.clip(self._pose.astype(np.float32), self._agent_pos_space.low, self._agent_pos_space.high)
        return {"pixels": self._frame.copy(), "agent_pos": agent_pos}

    def _info(self, success: bool) -> dict[str, Any]:
        scene = self.scene
        return {
            "task": scene.task,
            "target_colour": scene.blocks[0].colour,
            "instruction": scene.instruction,
            "is_success": success,
            "progress": self._progress,
            "measured_pose": self._sim.measured_pose(),
            "scene_seed": scene.seed,
            "layout": layout_of(scene),
        }


def check_action(action: ArrayLike) -> NDArray[np.float64]:
    """The action as float64 [7].

    Raises:
        UserError: it is not 7 finite numbers.
    """
    try:
        array = np.asarray(action, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"an action must be {ACTION_DIM} numbers, not {action!r}") from error
    if array.shape != (ACTION_DIM,):
        raise UserError(f"an action must have shape ({ACTION_DIM},), not {array.shape}")
    if not np.all(np.isfinite(array)):
        raise UserError(f"an action must be finite, not {array.tolist()}")
    return array
