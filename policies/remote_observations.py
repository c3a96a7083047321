"""What a policy server is sent: which of its keys carry which of our observations, and images at the size it wants.

keys = ObservationKeys(images={"observation/image": "pixels"}, image_size=(224, 224))
request = encode(keys, observation, row=0, prompt="push the red block into the zone")

config = RoboArenaConfig.read(metadata)        # what a RoboArena server says in its first message
request = encode_roboarena(config, ...)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from wfm_sim.errors import UserError, unknown
from wfm_sim.policies.remote_actions import ROBOARENA_SPACES, droid_pose

Observation = Mapping[str, NDArray[Any]]
MAX_SIDE = 4096  # pixels that a server may ask for


@dataclass(frozen=True)
class ObservationKeys:
    """The keys of an openpi request.

    Attributes:
        images: Key of the request -> key of our observation, uint8 [B, H, W, 3].
        state: Key that carries `agent_pos` as float32 [7]; None sends none.
        prompt: Key that carries the instruction; None sends none.
        image_size: (height, width) that images are resized to, with black bars; None sends them as they are.
        blank: Keys that carry a black image, for cameras that our environments do not have (a wrist camera, say).
    """

    images: Mapping[str, str] = field(default_factory=lambda: {"observation/image": "pixels"})
    state: str | None = "observation/state"
    prompt: str | None = "prompt"
    image_size: tuple[int, int] | None = None
    blank: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_size(self.image_size)


def encode(keys: ObservationKeys, observation: Observation, row: int, prompt: str | None) -> dict[str, Any]:
    """One row's request.

    Args:
        keys: See ObservationKeys.
        observation: The batch.
        row: Which of it.
        prompt: The instruction; None sends no prompt (openpi servers may have one of their own).

    Raises:
        UserError: the observation lacks a key, or an image is no uint8 [H, W, 3].
    """
    request: dict[str, Any] = {}
    image = None
    for key, source in keys.images.items():
        request[key] = image = resized(_image(observation, source, row), keys.image_size)
    for key in keys.blank:
        if image is None:
            raise UserError(f"{key!r} is to be black, but no image is sent that would tell its size")
        request[key] = np.zeros_like(image)
    if keys.state is not None:
        request[keys.state] = np.asarray(_of(observation, "agent_pos")[row], dtype=np.float32)
    if keys.prompt is not None and prompt is not None:
        request[keys.prompt] = prompt
    return request


@dataclass(frozen=True)
class RoboArenaConfig:
    """The first message of a RoboArena server (its PolicyServerConfig): what it wants and what it sends.

    Attributes:
        image_resolution: (height, width) to resize images to, or None.
        needs_wrist_camera, needs_stereo_camera: Which further images it wants.
        n_external_cameras: 0, 1 or 2.
        needs_session_id: Whether each request names its episode.
        action_space: One of ROBOARENA_SPACES.
    """

    image_resolution: tuple[int, int] | None = (224, 224)
    needs_wrist_camera: bool = True
    n_external_cameras: int = 1
    needs_stereo_camera: bool = False
    needs_session_id: bool = False
    action_space: str = "joint_position"

    @staticmethod
    def recognises(metadata: Mapping[Any, Any]) -> bool:
        """Whether a first message is one of these."""
        return {"image_resolution", "n_external_cameras", "action_space"} <= set(metadata)

    @classmethod
    def read(cls, metadata: Mapping[Any, Any]) -> RoboArenaConfig:
        """From a first message; keys unknown here are left out.

        Raises:
            UserError: a value is of another type or out of range.
        """
        given = {known.name: metadata[known.name] for known in fields(cls) if known.name in metadata}
        for name in ("needs_wrist_camera", "needs_stereo_camera", "needs_session_id"):
            if not isinstance(given.get(name, False), bool):
                raise UserError(f"RoboArena's {name} must be true or false, not {given[name]!r:.60}")
        cameras = given.get("n_external_cameras", 1)
        if type(cameras) is not int or not 0 <= cameras <= 2:
            raise UserError(f"RoboArena's n_external_cameras must be 0, 1 or 2, not {cameras!r:.60}")
        space = given.get("action_space", cls.action_space)
        if not isinstance(space, str) or space not in ROBOARENA_SPACES:
            raise unknown("RoboArena action space", space, ROBOARENA_SPACES)
        size = given.get("image_resolution")
        if isinstance(size, list):
            given["image_resolution"] = tuple(size)
        _check_size(given.get("image_resolution"))
        return cls(**given)


def encode_roboarena(
    config: RoboArenaConfig,
    cameras: Mapping[str, str],
    blank: tuple[str, ...],
    observation: Observation,
    row: int,
    prompt: str | None,
    session: str,
) -> dict[str, Any]:
    """One row's request in RoboArena's keys.

    Args:
        config: What the server wants.
        cameras: Key of the request -> key of our observation; what the server does not want of it is not sent.
        blank: Keys that carry a black image.
        observation, row, prompt: As for `encode`. `joint_position` [B, 7], if there is one, is sent too.
        session: The episode's id.

    Raises:
        UserError: the server wants a camera that is neither in `cameras` nor in `blank`.
    """
    wanted = wanted_cameras(config)
    missing = [key for key in wanted if key not in cameras and key not in blank]
    if missing:
        raise UserError(
            f"the RoboArena server wants the images {', '.join(missing)}, which this environment does not have; "
            "name them as blank to send black ones"
        )
    keys = ObservationKeys(
        {key: cameras[key] for key in wanted if key in cameras},
        state=None,
        image_size=config.image_resolution,
        blank=tuple(key for key in wanted if key not in cameras),
    )
    request = encode(keys, observation, row, prompt if prompt is not None else "")
    position, gripper = droid_pose(_of(observation, "agent_pos")[row])
    request["observation/cartesian_position"], request["observation/gripper_position"] = position, gripper
    if "joint_position" in observation:
        request["observation/joint_position"] = np.asarray(observation["joint_position"][row], dtype=np.float32)
    if config.needs_session_id:
        request["session_id"] = session
    request["endpoint"] = "infer"
    return request


def wanted_cameras(config: RoboArenaConfig) -> list[str]:
    """The request keys of the images that a server wants."""
    sides = ("left", "right") if config.needs_stereo_camera else ("left",)
    names = [f"exterior_image_{i}" for i in range(config.n_external_cameras)]
    names += ["wrist_image"] if config.needs_wrist_camera else []
    return [f"observation/{name}_{side}" for name in names for side in sides]


def resized(image: NDArray[np.uint8], size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """The image at (height, width), its proportions kept, black bars around it: as openpi's clients resize.

    Args:
        image: uint8 [H, W, 3].
        size: (height, width); None or the image's own returns it as it is.
    """
    height, width = image.shape[:2]
    if size is None or size == (height, width):
        return image
    shrink = max(width / size[1], height / size[0])
    inner = (max(1, int(height / shrink)), max(1, int(width / shrink)))
    scaled = Image.fromarray(image).resize((inner[1], inner[0]), Image.Resampling.BILINEAR)
    framed = np.zeros((*size, 3), np.uint8)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    framed[top : top + inner[0], left : left + inner[1]] = np.asarray(scaled)
    return framed


def _check_size(size: Any) -> None:
    if size is None:
        return
    whole = isinstance(size, tuple) and len(size) == 2 and all(type(n) is int for n in size)
    if not whole or not all(1 <= n <= MAX_SIDE for n in size):
        raise UserError(f"an image size must be (height, width) in 1..{MAX_SIDE} pixels, not {size!r:.60}")


def _of(observation: Observation, key: str) -> NDArray[Any]:
    if key not in observation:
        raise UserError(f"the environment's observation has no {key!r}; it has {', '.join(observation)}")
    return observation[key]


def _image(observation: Observation, key: str, row: int) -> NDArray[np.uint8]:
    image = np.asarray(_of(observation, key)[row])
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UserError(f"{key!r} is {image.dtype} {list(image.shape)}; expected an image, uint8 [H, W, 3]")
    return image
