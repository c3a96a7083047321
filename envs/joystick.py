"""Buttons for a camera world: one for each direction and turn, instead of six numbers.

env = JoystickWrapper(gym.make("wfm_sim/CameraWorld-v0"))
env.reset(seed=0)
env.act("forward")                     # = env.step(1)
env.step(env.action_space.sample())
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from wfm_sim.camera import MOTION_DIM, MOTION_HIGH
from wfm_sim.errors import UserError, unknown

# Name -> translation (right, down, forward) in steps and rotation (pitch up, yaw right, roll) in turns.
BUTTONS: dict[str, tuple[int, int, int, int, int, int]] = {
    "stay": (0, 0, 0, 0, 0, 0),
    "forward": (0, 0, 1, 0, 0, 0),
    "back": (0, 0, -1, 0, 0, 0),
    "left": (-1, 0, 0, 0, 0, 0),
    "right": (1, 0, 0, 0, 0, 0),
    "up": (0, -1, 0, 0, 0, 0),
    "down": (0, 1, 0, 0, 0, 0),
    "yaw left": (0, 0, 0, 0, -1, 0),
    "yaw right": (0, 0, 0, 0, 1, 0),
    "pitch up": (0, 0, 0, 1, 0, 0),
    "pitch down": (0, 0, 0, -1, 0, 0),
}
NAMES = tuple(BUTTONS)


class JoystickWrapper(gym.ActionWrapper[Any, Any, Any]):
    """Discrete(11) over an environment whose action is a camera motion [6]; the numbers are those of NAMES.

    Directions are the camera's own: who has looked up flies up when going forward, and yaws about a tilted axis.
    """

    def __init__(self, env: gym.Env[Any, Any], step: float = 0.1, turn: float = 0.1) -> None:
        """Wrap.

        Args:
            env: Its action space is a box of 6 numbers.
            step: Metres per button, within the environment's box (0.2).
            turn: Radians per button, likewise.

        Raises:
            UserError: another action space, or a size that is not positive or larger than the box.
        """
        super().__init__(env)
        space = env.action_space
        if not isinstance(space, gym.spaces.Box) or space.shape != (MOTION_DIM,):
            raise UserError(f"the joystick drives a camera motion, Box [{MOTION_DIM}], not {space}")
        for name, value, most in (("step", step, MOTION_HIGH[0]), ("turn", turn, MOTION_HIGH[3])):
            if not 0 < value <= most + 1e-6:
                raise UserError(f"the joystick's {name} must be above 0 and at most {most:.2g}, not {value}")
        sizes = np.repeat([step, turn], 3)
        self._motions = (np.array(list(BUTTONS.values())) * sizes).astype(np.float32)
        self.action_space = gym.spaces.Discrete(len(BUTTONS))

    def action(self, action: Any) -> NDArray[np.float32]:
        """The camera motion, float32 [6], of a button's number. UserError for a number that is none."""
        if not self.action_space.contains(action):
            raise UserError(f"a button is a number 0 to {len(NAMES) - 1} ({', '.join(NAMES)}), not {action!r}")
        motion: NDArray[np.float32] = self._motions[int(action)].copy()
        return motion

    def act(self, name: str) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """`step` by a button's name. UserError for an unknown one."""
        if name not in BUTTONS:
            raise unknown("button", name, BUTTONS)
        return self.step(NAMES.index(name))
