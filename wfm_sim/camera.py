"""Cameras: one pose type that says what it means, intrinsics, and relative motion as an action.

Everything of ours is camera-to-world with the axes of computer vision (x right, y down, z forward), metres. What comes
from outside says what it is: `CameraPose(matrix, "world-to-camera", "opencv").c2w`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wfm_sim.errors import UserError

Direction = Literal["camera-to-world", "world-to-camera"]
Axes = Literal["opencv", "opengl"]

MOTION_DIM = 6
MOTION_UNITS = ("m", "m", "m", "rad", "rad", "rad")
# One step: at 10 frames per second a quick walk (2 m/s) and a quick turn of the head (115 degrees per second).
MOTION_HIGH = np.array([0.2] * 6, np.float32)
MOTION_LOW = -MOTION_HIGH
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])  # OpenGL cameras look along -z with y up
_ORTHONORMAL = 1e-3  # files hold 6 to 9 digits


@dataclass(frozen=True)
class CameraPose:
    """Where a camera is, in the convention of wherever it comes from.

    Attributes:
        matrix: float64 [..., 4, 4] (or [..., 3, 4], completed), a rotation and a translation.
        direction: What it maps from and to.
        axes: Of the camera: "opencv" x right, y down, z forward; "opengl" (and nerfstudio) x right, y up, z backward.

    Raises:
        UserError: a wrong shape, a number that is not finite, or a rotation that is none.
    """

    matrix: NDArray[np.float64]
    direction: Direction = "camera-to-world"
    axes: Axes = "opencv"

    def __post_init__(self) -> None:
        object.__setattr__(self, "matrix", check_pose(self.matrix))

    @property
    def c2w(self) -> NDArray[np.float64]:
        """float64 [..., 4, 4], camera to world, OpenCV axes."""
        matrix = self.matrix if self.direction == "camera-to-world" else inverse(self.matrix)
        return matrix if self.axes == "opencv" else matrix @ _FLIP

    @property
    def w2c(self) -> NDArray[np.float64]:
        """float64 [..., 4, 4], world to camera, OpenCV axes."""
        return inverse(self.c2w)

    def to(self, direction: Direction, axes: Axes) -> CameraPose:
        """The same camera in another convention."""
        matrix = self.c2w if axes == "opencv" else self.c2w @ _FLIP
        return CameraPose(matrix if direction == "camera-to-world" else inverse(matrix), direction, axes)


@dataclass(frozen=True)
class Intrinsics:
    """A pinhole in pixels of an image of `height` x `width`; the centre of the first pixel is at (0.5, 0.5).

    Raises:
        UserError: a focal length that is not positive, or a number that is not finite.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    height: int
    width: int

    def __post_init__(self) -> None:
        if not np.isfinite([self.fx, self.fy, self.cx, self.cy]).all() or min(self.fx, self.fy) <= 0:
            raise UserError(
                f"intrinsics fx={self.fx}, fy={self.fy}, cx={self.cx}, cy={self.cy}: "
                "expected finite numbers in pixels, focal lengths positive"
            )
        if min(self.height, self.width) < 1:
            raise UserError(f"an image of {self.height}x{self.width} pixels")

    @classmethod
    def normalised(cls, values: ArrayLike, size: tuple[int, int]) -> Intrinsics:
        """From fx, fy, cx, cy in units of the image's width and height (RealEstate10K)."""
        fx, fy, cx, cy = np.asarray(values, np.float64).tolist()
        height, width = size
        return cls(fx * width, fy * height, cx * width, cy * height, height, width)

    @classmethod
    def of_fov(cls, vertical_degrees: float, size: tuple[int, int]) -> Intrinsics:
        """Square pixels, centred, with this vertical field of view."""
        height, width = size
        focal = height / 2 / float(np.tan(np.radians(vertical_degrees) / 2))
        return cls(focal, focal, width / 2, height / 2, height, width)

    @property
    def array(self) -> NDArray[np.float64]:
        """float64 [4]: fx, fy, cx, cy."""
        return np.array([self.fx, self.fy, self.cx, self.cy])

    @property
    def matrix(self) -> NDArray[np.float64]:
        """K, float64 [3, 3]."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]])

    def resized(self, size: tuple[int, int]) -> Intrinsics:
        """For the same picture scaled to `size` (height, width)."""
        height, width = size
        y, x = height / self.height, width / self.width
        return Intrinsics(self.fx * x, self.fy * y, self.cx * x, self.cy * y, height, width)

    def cropped(self, top: int, left: int, size: tuple[int, int]) -> Intrinsics:
        """For the part of the picture that begins at row `top`, column `left`."""
        return Intrinsics(self.fx, self.fy, self.cx - left, self.cy - top, *size)


def check_pose(matrix: ArrayLike, what: str = "camera pose") -> NDArray[np.float64]:
    """Rigid transforms as float64 [..., 4, 4]. UserError for wrong shapes, NaN and rotations that are none."""
    try:
        m = np.asarray(matrix, np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{what}: expected numbers [..., 4, 4]") from None
    if m.ndim < 2 or m.shape[-2:] not in ((3, 4), (4, 4)):
        raise UserError(f"{what}: expected [..., 4, 4] or [..., 3, 4], got {list(m.shape)}")
    if m.shape[-2] == 3:
        last = np.broadcast_to([0.0, 0.0, 0.0, 1.0], (*m.shape[:-2], 1, 4))
        m = np.concatenate((m, last), axis=-2)
    if not np.isfinite(m).all():
        raise UserError(f"{what}: holds a number that is not finite")
    r = m[..., :3, :3]
    error = float(np.abs(r @ r.swapaxes(-1, -2) - np.eye(3)).max(initial=0))
    if error > _ORTHONORMAL:
        raise UserError(f"{what}: the rotation is not orthonormal (off by {error:.2g})")
    if (np.linalg.det(r) < 0).any():
        raise UserError(f"{what}: the rotation is a reflection (determinant -1); is an axis flipped?")
    if np.abs(m[..., 3, :] - [0, 0, 0, 1]).max(initial=0) > _ORTHONORMAL:
        raise UserError(f"{what}: the last row must be 0 0 0 1")
    return m


def inverse(pose: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of rigid transforms [..., 4, 4]."""
    out = np.zeros_like(pose)
    rotation = pose[..., :3, :3].swapaxes(-1, -2)
    out[..., :3, :3] = rotation
    out[..., :3, 3] = -np.einsum("...ij,...j->...i", rotation, pose[..., :3, 3])
    out[..., 3, 3] = 1
    return out


def motion_matrix(motion: ArrayLike) -> NDArray[np.float64]:
    """[..., 6] -> [..., 4, 4]: the camera's next pose in its present axes.

    motion: Translation x, y, z (m: right, down, forward) and a rotation vector (rad: pitch up > 0 about x, yaw right
    > 0 about y, roll clockwise > 0 about z).
    """
    from scipy.spatial.transform import Rotation

    m = np.asarray(motion, np.float64)
    out = np.zeros((*m.shape[:-1], 4, 4))
    out[..., :3, :3] = Rotation.from_rotvec(m[..., 3:].reshape(-1, 3)).as_matrix().reshape(*m.shape[:-1], 3, 3)
    out[..., :3, 3] = m[..., :3]
    out[..., 3, 3] = 1
    return out


def move(c2w: NDArray[np.float64], motion: ArrayLike) -> NDArray[np.float64]:
    """The pose [..., 4, 4] after a motion [..., 6], which is said in the camera's own axes (see `motion_matrix`)."""
    moved = c2w @ motion_matrix(motion)
    # thousands of products would drift away from a rotation
    u, _, v = np.linalg.svd(moved[..., :3, :3])
    moved[..., :3, :3] = u @ v
    return moved


def motion_between(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """float64 [..., 6] with `move(before, motion) = after`, for poses camera to world [..., 4, 4]."""
    from scipy.spatial.transform import Rotation

    step = inverse(before) @ after
    turn = Rotation.from_matrix(step[..., :3, :3].reshape(-1, 3, 3)).as_rotvec().reshape(*step.shape[:-2], 3)
    return np.concatenate((step[..., :3, 3], turn), axis=-1)


def relative_to_first(c2w: NDArray[np.float64]) -> NDArray[np.float64]:
    """Poses [T, 4, 4] seen from the first one."""
    return inverse(c2w[0]) @ c2w


def camera_info(c2w: NDArray[np.float64], intrinsics: Intrinsics) -> dict[str, Any]:
    """What an environment's `info` says of its camera: camera_pose float64 [4, 4] (camera to world, OpenCV axes) and
    camera_intrinsics float64 [4] (fx, fy, cx, cy in pixels)."""
    return {"camera_pose": c2w.copy(), "camera_intrinsics": intrinsics.array}
