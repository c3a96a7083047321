"""Rooms and the ways through them: whole, free, seen from everywhere, and the same from the same seed."""

import numpy as np
import pytest

from wfm_sim.assets.rooms import build_room, joystick_path, walk
from wfm_sim.assets.rooms.meshes import mesh_of
from wfm_sim.assets.rooms.paths import look_at
from wfm_sim.assets.rooms.room import Part, turned
from wfm_sim.camera import MOTION_HIGH, motion_between
from wfm_sim.errors import UserError

SEEDS = (0, 1, 5)


@pytest.fixture(scope="module")
def rooms():
    return {seed: build_room(seed) for seed in SEEDS}


def test_a_seed_is_a_room(rooms):
    again = build_room(1)
    assert again.size == rooms[1].size
    assert again.furniture == rooms[1].furniture
    assert all(np.array_equal(m.pixels, again.materials[n].pixels) for n, m in rooms[1].materials.items())
    assert rooms[0].size != rooms[1].size
    assert not np.array_equal(rooms[0].materials["floor"].pixels, rooms[1].materials["floor"].pixels)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_room_is_furnished_and_holds_everything(rooms, seed):
    room = rooms[seed]
    x, y, z = room.size
    assert 3 <= x <= 6
    assert 3 <= y <= 6
    assert len(room.furniture) >= 6
    assert {part.material for part in room.parts} <= set(room.materials)
    for part in room.parts:
        reach = np.abs(part.rotation) @ part.size
        assert (np.abs(part.position[:2]) - reach[:2] < np.array([x, y]) / 2 + 0.3).all(), part
        assert -0.01 < part.position[2] < z + 0.01


@pytest.mark.parametrize("seed", SEEDS)
def test_clearance_and_sight_agree(rooms, seed, rng):
    # from a free place nothing is nearer along any ray than the clearance says, and at the end of a ray nothing is free
    room = rooms[seed]
    free = walk(room, 3, 5)[:, :3, 3]
    way = rng.standard_normal((200, 3))
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    for point in free:
        far = room.distance_along(np.tile(point, (200, 1)), way)
        assert far.min() >= room.clearance(point)[0] - 1e-9
        np.testing.assert_allclose(room.clearance(point + far[:, None] * way), 0, atol=1e-9)


def test_the_free_map_is_where_walks_are(rooms):
    room = rooms[1]
    height, cell = 1.4, 0.1
    free = room.free_map(height, cell, clearance=0.3)
    assert free.shape == (
        len(np.arange(0, room.size[1] - cell / 2, cell)),
        len(np.arange(0, room.size[0] - cell / 2, cell)),
    )
    assert 0.05 < free.mean() < 0.95
    assert not free[0].any()
    assert not free[:, -1].any()
    rows, columns = np.nonzero(free)
    points = np.column_stack((columns * cell + cell / 2 - room.size[0] / 2, rows * cell + cell / 2 - room.size[1] / 2))
    assert (room.clearance(np.column_stack((points, np.full(len(points), height)))) > 0.3).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("frames", [16, 33])
def test_a_walk_is_free_smooth_and_has_parallax(rooms, seed, frames):
    room = rooms[seed]
    poses = walk(room, 11, frames)
    assert poses.shape == (frames, 4, 4)
    assert np.array_equal(poses, walk(room, 11, frames))
    assert not np.array_equal(poses, walk(room, 12, frames))
    place = poses[:, :3, 3]
    assert (room.clearance(place) > 0.2).all()
    motion = motion_between(poses[:-1], poses[1:])
    assert (np.abs(motion) <= MOTION_HIGH).all()
    assert np.linalg.norm(np.diff(motion[:, :3], axis=0), axis=1).max() < 0.08  # no jerks
    assert np.linalg.norm(place - place[0], axis=1).max() > 0.1
    seen = room.distance_along(place, poses[:, :3, 2])
    assert seen.min() >= 0.5
    assert ((seen > 1) & (seen < 4)).mean() >= 0.75
    np.testing.assert_allclose(
        poses[:, :3, :3] @ poses[:, :3, :3].swapaxes(1, 2), np.tile(np.eye(3), (frames, 1, 1)), atol=1e-12
    )
    assert (poses[:, 2, 1] < -0.7).all()  # the camera's y axis points down


def test_a_joystick_path_holds_commands_and_turns_on_the_spot(rooms):
    poses = joystick_path(rooms[1], 4, 60)
    assert poses.shape == (60, 4, 4)
    motion = motion_between(poses[:-1], poses[1:])
    assert (np.abs(motion) <= MOTION_HIGH).all()
    held = (np.abs(np.diff(motion, axis=0)).max(axis=1) < 1e-9).mean()
    assert held > 0.4
    still = np.linalg.norm(motion[:, :3], axis=1) < 1e-9
    assert (still & (np.linalg.norm(motion[:, 3:], axis=1) > 0.01)).any()
    assert (rooms[1].clearance(poses[:, :3, 3]) > 0.15).all()


def test_look_at():
    pose = look_at(np.array([1.0, 0, 1]), np.array([0.0, 2, 0]))
    np.testing.assert_allclose(pose[:3, :3].T, [[1, 0, 0], [0, 0, -1], [0, 1, 0]], atol=1e-12)


@pytest.mark.parametrize("shape", ["box", "cylinder", "ellipsoid"])
def test_meshes_are_closed_and_face_outwards(rooms, shape):
    part = Part(shape, (0.3, 0.3, 0.5), np.array([1.0, 2, 3]), turned(0.4, 0.2), "wood0", taper=1.0)
    mesh = mesh_of([part], rooms[0].materials["wood0"])
    a, b, c = (mesh.vertices[mesh.faces[:, k]] - part.position for k in range(3))
    # divergence theorem: signed volumes of tetrahedra to the middle; of an inscribed shape a little less than the whole
    volume = np.einsum("ni,ni->n", a, np.cross(b, c)).sum() / 6
    whole = {"box": 8 * 0.045, "cylinder": np.pi * 0.09, "ellipsoid": 4 / 3 * np.pi * 0.045}[shape]
    assert 0.8 * whole < volume <= whole + 1e-9
    flat = np.cross(b - a, c - a)
    assert (np.einsum("ni,ni->n", flat, mesh.normals[mesh.faces[:, 0]]) > 0).all()


@pytest.mark.parametrize(
    "make", [lambda: build_room(-1), lambda: walk(build_room(0), 0, 0), lambda: walk(build_room(0), 0, 4, 0)]
)
def test_bad_input(make):
    with pytest.raises(UserError):
        make()
