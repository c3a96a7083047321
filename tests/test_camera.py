"""Camera poses, intrinsics and relative motion: conventions agree, and what is no camera is refused."""

import numpy as np
import pytest

from wfm_sim.camera import (
    CameraPose,
    Intrinsics,
    check_pose,
    inverse,
    motion_between,
    motion_matrix,
    move,
    relative_to_first,
)
from wfm_sim.errors import UserError


def test_motion_is_in_the_cameras_own_axes() -> None:
    forward = move(np.eye(4), [0, 0, 0.1, 0, 0, 0])
    assert np.allclose(forward[:3, 3], [0, 0, 0.1])
    right = motion_matrix([0, 0, 0, 0, np.pi / 2, 0])
    assert np.allclose(right[:3, :3] @ [0, 0, 1], [1, 0, 0])  # yaw > 0 looks to the right
    up = motion_matrix([0, 0, 0, np.pi / 2, 0, 0])
    assert np.allclose(up[:3, :3] @ [0, 0, 1], [0, -1, 0])  # pitch > 0 looks up (y is down)
    turned = move(move(np.eye(4), [0, 0, 0, 0, np.pi / 2, 0]), [0, 0, 1, 0, 0, 0])
    assert np.allclose(turned[:3, 3], [1, 0, 0])  # forward is where the camera looks now


def test_motion_between_inverts_move(rng: np.random.Generator) -> None:
    motions = rng.uniform(-0.2, 0.2, (20, 6))
    poses = [np.eye(4)]
    for m in motions:
        poses.append(move(poses[-1], m))
    path = np.stack(poses)
    assert np.allclose(motion_between(path[:-1], path[1:]), motions, atol=1e-9)
    assert np.allclose(relative_to_first(path @ motion_matrix([0, 0, 0, 0, 0.1, 0]))[0], np.eye(4))


def test_a_long_path_stays_a_rotation(rng: np.random.Generator) -> None:
    pose = np.eye(4)
    for m in rng.uniform(-0.2, 0.2, (2000, 6)):
        pose = move(pose, m)
    assert np.abs(pose[:3, :3] @ pose[:3, :3].T - np.eye(3)).max() < 1e-12


def test_conventions_name_the_same_camera(rng: np.random.Generator) -> None:
    pose = CameraPose(motion_matrix(rng.uniform(-1, 1, (3, 6))), "world-to-camera", "opengl")
    for direction in ("camera-to-world", "world-to-camera"):
        for axes in ("opencv", "opengl"):
            assert np.allclose(pose.to(direction, axes).c2w, pose.c2w)  # type: ignore[arg-type]
    point = np.array([0.3, -0.2, 2.0, 1.0])  # right, above, in front of an OpenCV camera
    gl = CameraPose(np.eye(4), "camera-to-world", "opengl")
    assert np.allclose(gl.c2w @ point, [0.3, 0.2, -2.0, 1.0])
    assert np.allclose(pose.w2c @ pose.c2w, np.eye(4))


def test_intrinsics_scale_and_crop_with_the_picture() -> None:
    k = Intrinsics.normalised([0.5, 0.8, 0.5, 0.5], (100, 200))
    assert k.array.tolist() == [100.0, 80.0, 100.0, 50.0]
    assert k.resized((50, 100)).array.tolist() == [50.0, 40.0, 50.0, 25.0]
    assert k.cropped(10, 20, (80, 160)).array.tolist() == [100.0, 80.0, 80.0, 40.0]
    wide = Intrinsics.of_fov(90, (100, 200))
    assert wide.fx == wide.fy == pytest.approx(50)
    # a point seen in the middle of the right edge stays there when the picture is made smaller
    assert (k.matrix @ [1, 0, 1])[0] / 200 == (k.resized((50, 100)).matrix @ [1, 0, 1])[0] / 100


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        (np.eye(3), "expected [..., 4, 4]"),
        (np.full((4, 4), np.nan), "not finite"),
        (np.diag([1, 1, 1.1, 1]), "not orthonormal"),
        (np.diag([1, 1, -1, 1]), "reflection"),
        (np.eye(4) + np.eye(4)[[3, 0, 1, 2]] * [[0], [0], [0], [1]], "last row"),
        ("pose", "expected numbers"),
    ],
)
def test_what_is_no_pose_is_refused(matrix: object, says: str) -> None:
    with pytest.raises(UserError, match=says.replace("[", r"\[").replace("]", r"\]").replace(".", r"\.")):
        check_pose(matrix)  # type: ignore[arg-type]


def test_three_rows_are_completed() -> None:
    pose = check_pose(np.eye(4)[:3])
    assert pose.shape == (4, 4) and np.array_equal(inverse(pose), np.eye(4))


@pytest.mark.parametrize("values", [(0, 1, 0, 0), (1, np.nan, 0, 0), (-1, 1, 0, 0)])
def test_impossible_intrinsics_are_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(UserError, match="focal lengths positive"):
        Intrinsics(*values, 10, 10)
