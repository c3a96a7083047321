"""Does the world model itself obey its contract: does the arm go where it is commanded, as it does in the twin?

Each scene is imagined once per command (six directions, two turns, from the same frame) and played once per command in
the physics twin. If the model obeys, the frame that it imagines for a command looks most like the twin's for the same
command; if it takes the numbers in another way, it looks like another one's.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.actions import UNITS, executed_action
from wfm_sim.assets.tabletop import WORKSPACE
from wfm_sim.envs.twin import TabletopMuJoCoEnv
from wfm_sim.evals.check_actions_report import Check
from wfm_sim.evals.statistics import wilson

FIRST_SEED = 21_900_000
STEPS = 3
COMMANDS = {
    "forward": (0, 0.035),
    "backward": (0, -0.035),
    "left": (1, 0.035),
    "right": (1, -0.035),
    "up": (2, 0.02),
    "down": (2, -0.035),
    "yaw +": (5, 0.2),
    "yaw -": (5, -0.2),
}


def has_twin(model: Any) -> bool:
    """Whether the model imagines what the twin shows: square frames of 64 to 128 pixels, canonical actions, one frame
    per step."""
    spec = model.spec
    height, width = spec.frame_size
    return (
        tuple(spec.condition_units) == UNITS
        and height == width
        and 64 <= height <= 128
        and spec.frames_per_step == 1
        and spec.views == 1
    )


def check_model(model: Any, scenes: int = 6, seed: int = 0) -> list[Check]:
    """Command the arm in every direction, in the model and in the twin.

    Args:
        model: A world model for which `has_twin` holds.
        scenes: Start frames; the middle of the table, where nothing is in the way.
        seed: Another seed takes other scenes.
    """
    names = list(COMMANDS)
    confusion = np.zeros((len(names), len(names)), dtype=np.int64)
    env = TabletopMuJoCoEnv(image_size=model.spec.frame_size[0])
    try:
        for scene in range(FIRST_SEED + 1000 * seed, FIRST_SEED + 1000 * seed + scenes):
            start, actions, shown = _play(env, scene)
            imagined = _imagine(model, start, actions)
            for row, frame in enumerate(imagined):
                distance = [float(np.mean((frame - other) ** 2)) for other in shown]
                confusion[row, int(np.argmin(distance))] += 1
    finally:
        env.close()
    obeyed, total = int(np.trace(confusion)), int(confusion.sum())
    share = wilson(obeyed, total)
    words = (
        f"the arm goes where commanded in {obeyed} of {total} probes (its frame is nearest to the twin's for the same "
    )
    words += f"of {len(names)} commands)"
    lost = [name for row, name in enumerate(names) if 2 * confusion[row, row] < confusion[row].sum()]
    if not lost and share.low is not None and share.low > 0.5:
        return [Check("arm", "ok", words)]
    taken = Counter(
        {f"{names[i]} looks like {names[j]}": int(confusion[i, j]) for i, j in np.ndindex(*confusion.shape) if i != j}
    )
    most = ", ".join(f"{name} ({count})" for name, count in taken.most_common(3) if count)
    return [Check("arm", "mismatch", f"{words}; {most}")]


def _play(env: TabletopMuJoCoEnv, scene: int) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float64]]:
    """Start frame [H, W, 3], executed actions [C, STEPS, 7], and the twin's last frames [C, H, W, 3] as float."""
    observation, _ = env.reset(seed=scene, options={"task": "pick"})
    start, snapshot = observation, env.snapshot()
    actions, frames = np.zeros((len(COMMANDS), STEPS, 7), dtype=np.float32), []
    for row, (index, size) in enumerate(COMMANDS.values()):
        env.restore(snapshot)
        pose = start["agent_pos"].astype(np.float64)
        for step in range(STEPS):
            command = np.zeros(7, dtype=np.float32)
            command[index], command[6] = size, 1.0
            actions[row, step], pose = executed_action(pose, command, WORKSPACE)
            observation = env.step(command)[0]
        frames.append(observation["pixels"].astype(np.float64))
    return start["pixels"], actions, np.stack(frames)


def _imagine(model: Any, start: NDArray[np.uint8], actions: NDArray[np.float32]) -> NDArray[np.float64]:
    """The last frame that the model imagines for each command: float64 [C, H, W, 3]."""
    first = np.repeat(start[None, None], len(actions), axis=0)
    state = model.start(first, seeds=[0] * len(actions))
    for step in range(actions.shape[1]):
        state, frames = model.step(state, actions[:, step : step + 1])
    return np.asarray(frames[:, -1], dtype=np.float64)
