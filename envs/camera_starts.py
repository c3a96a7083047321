"""Where a walk through an imagined place begins: a furnished room of the twin, a frame of a data set, or an image.

starts = CameraStarts(frame_size=(96, 128))
starts(rng, seed=3, options={})                                # room 3 of the twin, where its walk begins
starts(rng, None, {"episode": 12, "frame": 0})                 # a frame of a data set with cameras
starts(rng, None, {"image": "kitchen.jpg", "fov": 65.0})       # a file, or uint8 [H, W, 3]
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.camera import Intrinsics
from wfm_sim.envs.core import Start
from wfm_sim.envs.starts import MAX_DRAWN_SEED, check_index, fit_image
from wfm_sim.errors import UserError, unknown

OPTIONS = ("room", "pose", "episode", "frame", "image", "fov", "intrinsics")
NO_POSE = np.zeros(7)  # nobody has a gripper here


class CameraStarts:
    """Starts of a camera world.

    Args:
        frame_size: (height, width) of the model's frames; others are cut to their shape and resized, which
            `info["notice"]` says.
        dataset: A folder that `wfm_sim.data.camera.open_camera_dataset` reads, for options["episode"]; where there is
            one, seeds draw from it instead of from the twin's rooms.
        depth: Whether the model gets the start frame's true depth, where it is known (rooms, data sets with depth).
    """

    def __init__(self, frame_size: tuple[int, int], dataset: str | Path | None = None, depth: bool = False) -> None:
        self.frame_size, self.depth = frame_size, depth
        self._clips: Any = None
        self._twin: Any = None
        if dataset is not None:  # a wrong path is an error now, not at some later reset
            from wfm_sim.data.camera import open_camera_dataset

            self._clips = open_camera_dataset(dataset)

    def __call__(self, rng: np.random.Generator, seed: int | None, options: dict[str, Any]) -> Start:
        """The start that `seed` and `options` ask for; see the class. Raises UserError for what cannot be used."""
        for name in options:
            if name not in OPTIONS:
                raise unknown("reset option", name, OPTIONS)
        chosen = [name for name in ("image", "episode", "room") if name in options]
        if len(chosen) > 1:
            raise UserError(f"the reset options {chosen[0]!r} and {chosen[1]!r} exclude each other")
        if "image" not in options:
            for name in {"fov", "intrinsics"} & set(options):
                raise UserError(f'the reset option {name!r} needs "image" beside it')
        if "pose" in options and {"image", "episode"} & set(options):
            raise UserError('the reset option "pose" goes with a room')
        drawn = int(rng.integers(MAX_DRAWN_SEED)) if seed is None else int(seed)
        if "image" in options:
            return self._from_image(drawn, options)
        if "episode" in options or (self._clips is not None and not {"room", "pose"} & set(options)):
            return self._from_dataset(drawn, options)
        return self._from_twin(drawn, options)

    def _from_twin(self, seed: int, options: dict[str, Any]) -> Start:
        if self._twin is None:
            from wfm_sim.envs.camera_twin import CameraWorldMuJoCoEnv  # MuJoCo only where a room is really wanted

            self._twin = CameraWorldMuJoCoEnv(image_size=self.frame_size, depth=self.depth)
        obs, info = self._twin.reset(seed=seed, options=options)
        camera = {"intrinsics": info["camera_intrinsics"], "poses": info["camera_pose"][None]}
        if self.depth:
            camera["depth"] = info["depth"][None]
        return Start(obs["pixels"], NO_POSE, seed, info={"room": info["room"]}, camera=camera)

    def _from_dataset(self, seed: int, options: dict[str, Any]) -> Start:
        if self._clips is None:
            raise UserError('the reset option "episode" needs an environment made with dataset=path')
        index = check_index("episode", options.get("episode", seed % len(self._clips)), len(self._clips))
        clip = self._clips[index]
        t = check_index("frame", options.get("frame", 0), len(clip))
        depth = clip.depth[t] if self.depth and clip.depth is not None else None
        info: dict[str, Any] = {"episode": index, "frame": t}
        if not clip.metric:
            info["scale"] = "unknown"
        return self._fitted(clip.frames[t], clip.intrinsics, clip.poses[t], depth, seed, info)

    def _from_image(self, seed: int, options: dict[str, Any]) -> Start:
        image = options["image"]
        if isinstance(image, str | Path):
            image = read_image(Path(image))
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3 or 0 in image.shape:
            raise UserError(f"an image must be uint8 [H, W, 3] or a file, not {image.dtype} {list(image.shape)}")
        if "fov" in options and "intrinsics" in options:
            raise UserError('the reset options "fov" and "intrinsics" exclude each other')
        size = (image.shape[0], image.shape[1])
        info: dict[str, Any] = {}
        if "intrinsics" in options:
            intrinsics = _given_intrinsics(options["intrinsics"], size)
        else:
            fov = options.get("fov", 60.0)
            if not isinstance(fov, int | float) or not 10 <= fov <= 120:
                raise UserError(f"options['fov'] must be the vertical field of view, 10 to 120 degrees, not {fov!r}")
            intrinsics = Intrinsics.of_fov(float(fov), size)
            if "fov" not in options:
                info["notice"] = "the field of view is not known; 60 degrees from top to bottom are taken"
        return self._fitted(image, intrinsics, np.eye(4), None, seed, info)

    def _fitted(
        self,
        frame: NDArray[np.uint8],
        intrinsics: Intrinsics,
        pose: NDArray[np.float64],
        depth: NDArray[np.float32] | None,
        seed: int,
        info: dict[str, Any],
    ) -> Start:
        """Cut in the middle to the model's shape, then resized: a stretched picture would be of another camera."""
        h, w = self.frame_size
        height, width = frame.shape[:2]
        keep = (min(height, round(width * h / w)), min(width, round(height * w / h)))
        top, left = (height - keep[0]) // 2, (width - keep[1]) // 2
        part = slice(top, top + keep[0]), slice(left, left + keep[1])
        fitted, notice = fit_image(frame[part], self.frame_size)
        if keep != (height, width):
            notice = f"the image of {height}x{width} pixels was cut to {keep[0]}x{keep[1]} and resized to {h}x{w}"
        if notice:
            info["notice"] = "; ".join(n for n in (info.get("notice"), notice) if n)
        k = intrinsics.cropped(top, left, keep).resized(self.frame_size)
        camera: dict[str, Any] = {"intrinsics": k.array, "poses": pose[None]}
        if depth is not None:
            import cv2

            camera["depth"] = cv2.resize(depth[part], (w, h), interpolation=cv2.INTER_NEAREST)[None]
        return Start(fitted, NO_POSE, seed, info=info, camera=camera)

    def close(self) -> None:
        """Close the twin, if one was made."""
        if self._twin is not None:
            self._twin.close()
            self._twin = None


def read_image(path: Path) -> NDArray[np.uint8]:
    """uint8 [H, W, 3], RGB. Raises UserError where there is no such file, or where it is no picture."""
    import cv2

    if not path.is_file():
        raise UserError(f"{path}: no such image file")
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"{path}: not a readable image")
    return np.ascontiguousarray(image[..., ::-1])


def _given_intrinsics(values: Any, size: tuple[int, int]) -> Intrinsics:
    try:
        fx, fy, cx, cy = (float(v) for v in values)
    except (TypeError, ValueError):
        raise UserError("options['intrinsics'] must be fx, fy, cx, cy in pixels of the image") from None
    return Intrinsics(fx, fy, cx, cy, *size)
