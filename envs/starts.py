"""Where an imagined episode begins: a scene of the physics twin, a frame of a data set, or an image.

starts = Starts(frame_size=(64, 64), task="push", twin=True, dataset="datasets/tabletop")
starts(rng, seed=3, options={})                                # the twin's first frame of scene 3
starts(rng, None, {"episode": 12, "frame": 0})                 # a recorded frame
starts(rng, None, {"image": image, "task": "pick", "target_colour": "red"})
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.assets.tabletop import INSTRUCTIONS, PALETTE, START_HIGH, START_LOW, check_task
from wfm_sim.envs.core import Start
from wfm_sim.errors import UserError, unknown

OPTIONS = ("image", "episode", "frame", "agent_pos", "task", "target_colour", "instruction")
# Where an image shows the gripper is not known; without options["agent_pos"] it is taken to stand in the middle of
# where episodes begin.
DEFAULT_POSE = (START_LOW + START_HIGH) / 2
MAX_DRAWN_SEED = 2**31 - 1  # as in envs/twin.py, which is not imported here: it would load MuJoCo
_WORDS = ("task", "target_colour", "instruction")


class Starts:
    """Starts of the tabletop, or of anything a data set or an image shows.

    Args:
        frame_size: (height, width) of the world model's frames; others are resized, and `info["notice"]` says so.
        task: 'push', 'pick', 'place' or 'any' for scenes of the twin; for frames and images the default of
            options["task"], None where there is none.
        twin: Whether seeds without options stand for scenes of the twin (created at the first one).
        dataset: A folder that `wfm_sim.data.open_dataset` reads, for options["episode"]; without a twin an episode is
            drawn where none is named.
    """

    def __init__(
        self, frame_size: tuple[int, int], task: str | None, twin: bool, dataset: str | Path | None = None
    ) -> None:
        if task is not None:
            check_task(task)
        self.frame_size, self.task, self.twin, self.dataset = frame_size, task, twin, dataset
        self._twin: Any = None
        self._episodes: Any = None
        if dataset is not None:  # a wrong path is an error now, not at some later reset
            from wfm_sim.data import open_dataset

            self._episodes = open_dataset(dataset)

    def __call__(self, rng: np.random.Generator, seed: int | None, options: dict[str, Any]) -> Start:
        """The start that `seed` and `options` ask for; see the class. Raises UserError for what cannot be used."""
        for name in options:
            if name not in OPTIONS:
                raise unknown("reset option", name, OPTIONS)
        if "image" in options and "episode" in options:
            raise UserError('the reset options "image" and "episode" exclude each other')
        # The same draw as the twin's, so that unseeded resets of both show the same scenes.
        drawn = int(rng.integers(MAX_DRAWN_SEED)) if seed is None else int(seed)
        if "image" in options:
            return self._from_image(drawn, options)
        if "episode" in options or (self._episodes is not None and not self.twin):
            return self._from_dataset(drawn, options)
        if self.twin:
            return self._from_twin(drawn, options)
        raise UserError(
            'nothing to start from: pass reset(options={"image": uint8 [H, W, 3]}), '
            "or make the environment with dataset=path"
        )

    def _from_twin(self, seed: int, options: dict[str, Any]) -> Start:
        for name in set(options) - {"task"}:
            raise UserError(f'the reset option {name!r} needs "image" or "episode" beside it')
        if self._twin is None:
            from wfm_sim.envs.twin import TabletopMuJoCoEnv  # MuJoCo is loaded only where a scene is really wanted

            self._twin = TabletopMuJoCoEnv(task=self.task or "any", image_size=self.frame_size[0])
        obs, info = self._twin.reset(seed=seed, options=options)
        return Start(
            frame=obs["pixels"],
            pose=obs["agent_pos"].astype(np.float64),
            seed=seed,
            instruction=info["instruction"],
            task=info["task"],
            target_colour=info["target_colour"],
            info={"scene_seed": info["scene_seed"], "layout": info["layout"]},
        )

    def _from_image(self, seed: int, options: dict[str, Any]) -> Start:
        frame, notice = fit_image(options["image"], self.frame_size)
        pose = _check_pose(options.get("agent_pos", DEFAULT_POSE))
        return self._described(frame, pose, seed, options, {}, {"notice": notice} if notice else {})

    def _from_dataset(self, seed: int, options: dict[str, Any]) -> Start:
        if self._episodes is None:
            raise UserError('the reset option "episode" needs an environment made with dataset=path')
        index = options.get("episode", seed % len(self._episodes))
        index = check_index("episode", index, len(self._episodes))
        episode = self._episodes[index]
        t = check_index("frame", options.get("frame", 0), len(episode.frames))
        frame, notice = fit_image(episode.frames[t], self.frame_size)
        info: dict[str, Any] = {"episode": index, "frame": t}
        extras = dict(episode.extras)
        if t == 0 and "layout" in extras:  # later the target lies elsewhere
            info["layout"] = {name: _leaf(value) for name, value in extras["layout"].items()}
            info["scene_seed"] = int(extras["seed"])
        if notice:
            info["notice"] = notice
        recorded = {
            "task": extras.get("task"),
            "target_colour": extras.get("target_colour"),
            "instruction": episode.instruction,
        }
        # Episodes of ours say what was commanded, others only what was measured.
        poses = extras.get("agent_pos", episode.states)
        pose = options.get("agent_pos", DEFAULT_POSE if poses is None else poses[t])
        start = self._described(frame, _check_pose(pose), seed, options, recorded, info)
        return replace(start, first_frame=fit_image(episode.frames[0], self.frame_size)[0]) if t else start

    def _described(
        self,
        frame: NDArray[np.uint8],
        pose: NDArray[np.float64],
        seed: int,
        options: dict[str, Any],
        recorded: dict[str, Any],
        info: dict[str, Any],
    ) -> Start:
        """A start whose task, colour and instruction come from the options, the recording or the environment."""
        default = {"task": None if self.task == "any" else self.task}
        said = {key: options.get(key) or recorded.get(key) or default.get(key) for key in _WORDS}
        task, colour = said["task"], said["target_colour"]
        if task is not None and task not in INSTRUCTIONS:
            raise unknown("task", task, INSTRUCTIONS)
        if colour is not None and colour not in PALETTE:
            raise unknown("target colour", colour, PALETTE)
        if not said["instruction"] and task and colour:
            said["instruction"] = INSTRUCTIONS[task].format(colour=colour)
        return Start(frame, pose, seed, said["instruction"] or "", task, colour, info)

    def close(self) -> None:
        """Close the twin, if one was made."""
        if self._twin is not None:
            self._twin.close()
            self._twin = None


def fit_image(image: Any, frame_size: tuple[int, int]) -> tuple[NDArray[np.uint8], str | None]:
    """An image at the world model's frame size, and a notice where it had to be resized.

    Raises:
        UserError: not uint8, or not [H, W, 3].
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
        raise UserError(f"an image must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
    if image.shape[:2] == frame_size:
        return image.copy(), None
    import cv2

    (height, width), (h, w) = frame_size, image.shape[:2]
    shrinks = height * width < h * w
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    notice = f"the image of {h}x{w} pixels was resized to {height}x{width}"
    return np.ascontiguousarray(resized, dtype=np.uint8), notice


def _leaf(value: Any) -> Any:
    """An entry of a layout as the twin has it: an array, or the task's number."""
    return int(value) if np.ndim(value) == 0 else np.asarray(value, dtype=np.float32)


def _check_pose(pose: Any) -> NDArray[np.float64]:
    try:
        array = np.asarray(pose, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape != (7,) or not np.isfinite(array).all():
        raise UserError("options['agent_pos'] must be 7 finite numbers: x, y, z [m], roll, pitch, yaw [rad], gripper")
    return array


def check_index(name: str, value: Any, size: int) -> int:
    """A reset option as an index of something with `size` entries. UserError where it is none."""
    try:
        index = int(value)
    except (TypeError, ValueError):
        raise UserError(f"options[{name!r}] must be an integer, not {value!r}") from None
    if not 0 <= index < size:
        raise UserError(f"options[{name!r}] must be 0..{size - 1}, not {index}")
    return index
