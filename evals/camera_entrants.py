"""What walks through unseen scenes: a camera world model, the truth, and two baselines that know no third dimension.

Each is a source of clips for the consistency evals (`consistency.clips.ClipSource`): the first frame and the path come
from a data set with known cameras, the other frames from the entrant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wfm_sim.camera import Intrinsics, inverse, motion_between
from wfm_sim.data.camera import CameraDataset
from wfm_sim.data.camera_clip import CameraClip
from wfm_sim.errors import UserError
from wfm_sim.evals.consistency.clips import NamedClip
from wfm_sim.weights import weights_hash

TRUTH, REPEAT, HOMOGRAPHY, MODEL = "truth", "repeat first frame", "homography", "model"
MODEL_DEPTH = "model told the depth"  # of the first frame
PLANE = 2.4  # metres: where the homography's plane is, in scenes whose depth is not known


@dataclass(frozen=True)
class Walks:
    """Scenes, and what somebody makes of walking through them.

    Attributes:
        scenes: Clips with cameras (`open_camera_dataset`), of the model's frame size.
        entrant: TRUTH, REPEAT, HOMOGRAPHY, MODEL, or MODEL_DEPTH.
        frames: Of every walk, the given one included.
        count: Scenes, from the first.
        model: A camera world, for the last two.
        seed: Of its noise, plus the scene's number.
        about: What else decides the clips (the data set's path).
    """

    scenes: CameraDataset
    entrant: str
    frames: int
    count: int
    model: Any = None
    seed: int = 0
    about: str = ""
    portable: bool = False

    @property
    def names(self) -> Sequence[str]:
        """The scenes' ids."""
        ids: Sequence[str] = self.scenes.ids[: self.count]
        return ids

    @property
    def identity(self) -> Mapping[str, Any]:
        """Data, entrant, its weights and settings."""
        told: dict[str, Any] = {"source": self.about, "entrant": self.entrant, "frames": self.frames}
        if self.entrant in (MODEL, MODEL_DEPTH):
            told |= {
                "model": self.model.spec.name,
                "weights": weights_hash(self.model),
                "seed": self.seed,
            }
        return told

    def load(self, index: int) -> NamedClip:
        """Walk through a scene."""
        clip = self.scenes[index]
        if len(clip) < self.frames:
            raise UserError(f"{clip.source or clip.id}: {len(clip)} frames, but walks of {self.frames} were asked for")
        return NamedClip(clip.id, self.walk(clip, index), clip.intrinsics, clip.poses[: self.frames], fps=clip.fps)

    def walk(self, clip: CameraClip, index: int) -> NDArray[np.uint8]:
        """The entrant's frames, uint8 [T, H, W, 3]; the first is the given one."""
        truth, poses = clip.frames[: self.frames], clip.poses[: self.frames]
        if self.entrant == TRUTH:
            return truth
        if self.entrant == REPEAT:
            return np.repeat(truth[:1], len(truth), axis=0)
        if self.entrant == HOMOGRAPHY:
            plane = PLANE if clip.depth is None else float(np.median(clip.depth[0][clip.depth[0] > 0]))
            return warped(truth[0], poses, clip.intrinsics, plane)
        depth = None
        if self.entrant == MODEL_DEPTH:
            if clip.depth is None:
                raise UserError(f"{clip.source or clip.id}: its depth is not known")
            depth = clip.depth[None, :1]
        return imagine(self.model, truth[0], poses, clip.intrinsics, self.seed + index, depth)


def imagine(
    model: Any,
    first: NDArray[np.uint8],
    poses: NDArray[np.float64],
    intrinsics: Intrinsics,
    seed: int = 0,
    depth: NDArray[np.float32] | None = None,
) -> NDArray[np.uint8]:
    """The frames [T, H, W, 3] that a camera world imagines along poses [T, 4, 4]; depth: float32 [1, 1, H, W]."""
    state = model.start(first[None, None], seeds=[seed], intrinsics=intrinsics.array, depth=depth)
    motions = motion_between(poses[:-1], poses[1:]).astype(np.float32)
    frames = [first]
    for motion in motions:
        state, imagined = model.step(state, motion[None, None])
        frames.append(imagined[0, 0])
    return np.stack(frames)


def warped(
    first: NDArray[np.uint8], poses: NDArray[np.float64], intrinsics: Intrinsics, plane: float
) -> NDArray[np.uint8]:
    """The first frame as a picture on a wall, `plane` metres before its camera, seen along poses [T, 4, 4].

    What lies outside of it is its border, drawn out: that is kinder to the baseline than black would be.
    """
    k = intrinsics.matrix
    frames = [first]
    for pose in poses[1:]:
        step = inverse(pose) @ poses[0]  # from the first camera's axes to this one's
        h = k @ (step[:3, :3] + np.outer(step[:3, 3], [0, 0, 1 / plane])) @ np.linalg.inv(k)
        # OpenCV's pixels have their centres on whole numbers, ours half a pixel further
        shift = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
        m = np.linalg.inv(shift) @ h @ shift
        size = (first.shape[1], first.shape[0])
        seen = cv2.warpPerspective(first, m, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        frames.append(seen.astype(np.uint8))
    return np.stack(frames)
