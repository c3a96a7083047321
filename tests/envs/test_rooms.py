"""Pictures of rooms: depth against rays and against other views, and light that does not move with the camera."""

import numpy as np
import pytest

from wfm_sim.assets.rooms import build_room, walk
from wfm_sim.camera import inverse
from wfm_sim.envs.rooms import RoomRenderer
from wfm_sim.errors import UserError

SIZE = (96, 128)


@pytest.fixture(scope="module")
def views():
    """Room, poses, intrinsics, pictures and depth of two places on one walk."""
    room = build_room(3)
    poses = walk(room, 3)[[0, 5]]
    with RoomRenderer(room, SIZE) as renderer:
        seen = [renderer.render(pose) for pose in poses]
        again = renderer.render(poses[0])
        assert np.array_equal(again[0], seen[0][0])
        assert np.array_equal(again[1], seen[0][1])
        return room, poses, renderer.intrinsics, *map(np.stack, zip(*seen, strict=True))


def rays(intrinsics):
    v, u = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    return np.stack([u.ravel(), v.ravel(), np.ones(u.size)], -1) @ np.linalg.inv(intrinsics.matrix).T


def test_pictures_and_depth(views):
    _, _, _, frames, depth = views
    assert frames.dtype == np.uint8
    assert frames.shape == (2, *SIZE, 3)
    assert depth.dtype == np.float32
    assert depth.shape == (2, *SIZE)
    assert depth.min() > 0.1
    assert depth.max() < 9
    assert frames.std() > 20


def test_depth_is_where_rays_meet_the_boxes(views):
    room, poses, intrinsics, _, depth = views
    way = rays(intrinsics)[::9] @ poses[0, :3, :3].T
    length = np.linalg.norm(way, axis=1)
    far = room.distance_along(np.tile(poses[0, :3, 3], (len(way), 1)), way / length[:, None]) / length
    error = np.abs(far - depth[0].ravel()[::9])
    # round things count as the boxes around them, and edges share pixels: the rest is exact
    assert np.median(error) < 1e-5
    assert (error < 1e-3).mean() > 0.75


def test_two_views_agree(views):
    _, poses, intrinsics, frames, depth = views
    points = rays(intrinsics) * depth[0].reshape(-1, 1)
    moved = inverse(poses[1]) @ poses[0]
    there = points @ moved[:3, :3].T + moved[:3, 3]
    uv = there @ intrinsics.matrix.T
    u, v = (uv[:, 0] / uv[:, 2]).astype(int), (uv[:, 1] / uv[:, 2]).astype(int)
    inside = (there[:, 2] > 0) & (u >= 0) & (u < SIZE[1]) & (v >= 0) & (v < SIZE[0])
    assert inside.mean() > 0.3
    near = np.abs(depth[1][v[inside], u[inside]] - there[inside, 2])
    assert np.median(near) < 0.02  # half a pixel of a slanted wall
    same = inside.copy()
    same[inside] = near < 0.02
    colour = np.abs(frames[1][v[same], u[same]].astype(int) - frames[0].reshape(-1, 3)[same])
    assert np.median(colour) < 8


@pytest.mark.parametrize(
    "call",
    [
        lambda room: RoomRenderer(room, (4, 4)),
        lambda room: RoomRenderer(room, SIZE, vertical_fov=170),
        lambda room: RoomRenderer(room, SIZE, supersample=0),
    ],
)
def test_bad_input(views, call):
    with pytest.raises(UserError):
        call(views[0])


def test_a_pose_that_is_none(views):
    with RoomRenderer(views[0], SIZE) as renderer:
        for pose in (np.zeros((4, 4)), np.eye(3), np.tile(np.eye(4), (2, 1, 1))):
            with pytest.raises(UserError):
                renderer.render(pose)
