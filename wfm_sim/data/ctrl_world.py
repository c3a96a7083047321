"""Ctrl-World's DROID form: annotation/<split>/<id>.json with `states` [T][7] and three cameras of mp4."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from wfm_sim.actions import actions_from_states
from wfm_sim.data.bridge import BridgeDataset, numbers, video_path
from wfm_sim.data.episode import Episode
from wfm_sim.data.files import field, read_json
from wfm_sim.data.video import read_video
from wfm_sim.errors import UserError

_FPS = 4.0


class CtrlWorldDataset(BridgeDataset):
    """One split of Ctrl-World data; actions are the displacements between recorded states.

    DROID states the Franka hand's own frame (z pointing out of the hand, roll = pi when it points down) and a gripper
    of 1 = closed; both are turned into the canonical pose here.
    """

    def read(self, episode_id: str) -> Episode:
        path = self.annotation_path(episode_id)
        content = read_json(path)
        states = _canonical_states(numbers(content, "states", path, columns=7))
        frames = read_video(video_path(self.root, content, path, self.camera))
        if len(frames) == len(states) + 1:  # seen in the published sample: the camera runs one frame longer
            frames = frames[:-1]
        if len(frames) != len(states):
            raise UserError(f"{path}: {len(states)} states for a video of {len(frames)} frames")
        return Episode(
            frames=frames,
            actions=actions_from_states(states),
            states=states,
            instruction=str((field(content, "texts", path) or [""])[0]),
            fps=_FPS,
            id=episode_id,
            source=str(path),
            extras={name: content[name] for name in ("success", "joints") if name in content},
        )


def _canonical_states(recorded: NDArray[np.float64]) -> NDArray[np.float32]:
    hand = Rotation.from_euler("xyz", recorded[:, 3:6])
    level = hand * Rotation.from_euler("x", np.pi)
    opening = 1.0 - np.clip(recorded[:, 6:7], 0.0, 1.0)
    return np.concatenate([recorded[:, :3], level.as_euler("xyz"), opening], axis=1).astype(np.float32)
