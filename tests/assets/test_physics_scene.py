"""The neutral scene: what a seed stands for, its way through JSON, its cameras, its masses, its surfaces."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from wfm_sim.assets.physics import AUTHORS, EXTENSIONS, SCENES, Camera, build, scene_from_dict, scene_to_dict
from wfm_sim.assets.physics.framing import Viewpoints, frame_cameras
from wfm_sim.assets.physics.meshes import mesh_of
from wfm_sim.assets.physics.scene import Material, Shape, quaternion, vector
from wfm_sim.assets.physics.solids import corners, inertia, volume
from wfm_sim.assets.physics.textures import TEXTURES, texture
from wfm_sim.errors import UserError

QUICK = [name for name in AUTHORS if name != "bowl"]  # thirty balls take seconds


@pytest.mark.parametrize("name", QUICK)
def test_a_seed_is_one_scene_and_survives_json(name: str) -> None:
    scene = build(name, 3)
    assert scene == build(name, 3)
    assert scene != build(name, 4)
    assert scene_from_dict(json.loads(json.dumps(scene_to_dict(scene)))) == scene
    assert len(scene.cameras) == 4
    assert len(set(scene.names)) == len(scene.names) >= 1
    assert all(np.isfinite(value) for value in scene.parameters.values() if not isinstance(value, str))


def test_the_lists_of_scenes() -> None:
    assert set(AUTHORS) == {*SCENES, *EXTENSIONS}
    assert len(SCENES) == 8


def test_objects_vary_and_differ_in_hue() -> None:
    scenes = [build(name, seed) for name in ("free_fall", "dominoes") for seed in range(4)]
    assert len({len(scene.names) for scene in scenes}) > 2
    assert len({scene.cameras[0].position for scene in scenes}) == len(scenes)
    for scene in scenes:
        colours = {material.name: np.array(material.rgb) for material in scene.materials}
        used = [colours[body.shapes[0].material] for body in scene.dynamic]
        gaps = [np.abs(a - b).max() for i, a in enumerate(used) for b in used[:i]]
        assert min(gaps) > 0.25
        # Floors and walls are greyish, objects are not.
        assert np.ptp(colours["floor"]) < 0.3 < min(np.ptp(colour) for colour in used)


@pytest.mark.parametrize("name", ["free_fall", "u_slope", "seesaw"])
def test_everything_that_moves_stays_in_every_picture(name: str) -> None:
    from wfm_sim.assets.physics.rollout import roll_out

    scene = build(name, 1)
    moved = roll_out(scene, 33, 24)
    for camera in scene.cameras:
        K, world_to_camera = camera.intrinsics(256, 256), camera.extrinsics()
        points = moved.positions.reshape(-1, 3) @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
        assert points[:, 2].min() > 0
        pixels = points @ K.T
        pixels = pixels[:, :2] / pixels[:, 2:]
        assert pixels.min() > 256 * 0.05
        assert pixels.max() < 256 * 0.95


def test_cameras_stand_as_close_as_the_points_allow(rng: np.random.Generator) -> None:
    points = rng.normal(size=(50, 3))
    for camera in frame_cameras(points, Viewpoints(), rng):
        seen = points @ camera.extrinsics()[:3, :3].T + camera.extrinsics()[:3, 3]
        tangent = np.tan(np.deg2rad(camera.fovy) / 2)
        fill = np.abs(seen[:, :2] / seen[:, 2:]).max(axis=0) / tangent
        assert fill.max() == pytest.approx(0.9, abs=1e-9)


def test_camera_matrices() -> None:
    # At (0, -2, 0), looking along +y with z up: OpenCV's x is the world's x, its y is down, its z is the world's y.
    turn = Rotation.from_matrix(np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]]))
    camera = Camera("c", (0.0, -2.0, 0.0), quaternion(turn), 90.0)
    seen = camera.extrinsics() @ np.array([0.5, 1.0, 0.25, 1.0])
    np.testing.assert_allclose(seen[:3], [0.5, -0.25, 3.0], atol=1e-12)
    np.testing.assert_allclose(camera.intrinsics(640, 480), [[240, 0, 320], [0, 240, 240], [0, 0, 1]])


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        ("box", (0.1, 0.2, 0.3)),
        ("sphere", (0.2,)),
        ("cylinder", (0.2, 0.3)),
        ("capsule", (0.2, 0.3)),
        ("cone", (0.2, 0.3)),
    ],
)
def test_masses_and_inertias_against_sampling(kind: str, size: tuple[float, ...], rng: np.random.Generator) -> None:
    points = rng.uniform(-1, 1, (400_000, 3)) * 0.55
    x, y, z = points.T
    r = np.hypot(x, y)
    inside = {
        "box": lambda: np.all(np.abs(points) < size, axis=1),
        "sphere": lambda: np.linalg.norm(points, axis=1) < size[0],
        "cylinder": lambda: (r < size[0]) & (np.abs(z) < size[1]),
        "capsule": lambda: np.hypot(r, np.maximum(np.abs(z) - size[1], 0)) < size[0],
        "cone": lambda: (np.abs(z) < size[1]) & (r < size[0] * (size[1] - z) / (2 * size[1])),
    }[kind]()
    held = points[inside] - points[inside].mean(axis=0)
    assert volume(kind, size) == pytest.approx(1.1**3 * inside.mean(), rel=0.02)  # type: ignore[arg-type]
    spread = (held**2).mean(axis=0)
    expected = 3.0 * np.array([spread[1] + spread[2], spread[0] + spread[2], spread[0] + spread[1]])
    np.testing.assert_allclose(inertia(kind, size, 3.0), expected, rtol=0.04)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["box", "sphere", "cylinder", "capsule", "cone", "plane"])
def test_meshes_face_outwards_and_fill_their_box(kind: str) -> None:
    size = {"box": (0.1, 0.2, 0.3), "sphere": (0.2,), "plane": (1.0, 2.0)}.get(kind, (0.2, 0.3))
    shape = Shape(kind, size, "m")  # type: ignore[arg-type]
    mesh = mesh_of(shape)
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    normals = np.cross(b - a, c - a)
    assert np.all(np.linalg.norm(normals, axis=1) > 0)
    outwards = [0.0, 0.0, 1.0] if kind == "plane" else (a + b + c) / 3
    assert np.all(np.sum(normals * outwards, axis=1) > 0)
    np.testing.assert_allclose(np.ptp(mesh.vertices, axis=0), np.ptp(corners(shape), axis=0), atol=1e-9)
    if kind != "plane":  # the divergence theorem: a closed surface encloses its volume
        enclosed = np.sum(a * np.cross(b, c)) / 6
        assert enclosed == pytest.approx(volume(kind, size), rel=0.03)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", TEXTURES)
def test_textures_tile_and_repeat(kind: str) -> None:
    material = Material("m", kind, (0.8, 0.2, 0.1), (0.4, 0.1, 0.05), texture_seed=5)
    pixels = texture(material, 64)
    assert pixels.shape == (64, 64, 3)
    np.testing.assert_array_equal(pixels, texture(material, 64))
    if kind != "plain":
        assert pixels.std() > 2
    if kind in ("noise", "marble", "speckle"):
        # No seam: the step across the border is like the steps inside.
        steps = np.abs(np.diff(pixels.astype(float), axis=0)).mean()
        assert np.abs(pixels[0].astype(float) - pixels[-1]).mean() < 3 * steps + 1


def test_bad_input() -> None:
    with pytest.raises(UserError, match="unknown physics scene 'domino'; did you mean 'dominoes'"):
        build("domino", 0)
    with pytest.raises(UserError, match="-1"):
        build("dominoes", -1)
    with pytest.raises(UserError, match="unknown texture 'wodo'; did you mean 'wood'"):
        texture(Material("m", "wodo", (0, 0, 0), (1, 1, 1)))
    content = scene_to_dict(build("gyroscope", 0))
    with pytest.raises(UserError, match="version"):
        scene_from_dict({**content, "version": 99})
    with pytest.raises(UserError, match="not a whole physics scene"):
        scene_from_dict({key: value for key, value in content.items() if key != "bodies"})
    with pytest.raises(UserError, match="mystery"):
        scene_from_dict({**content, "mystery": 1})


def test_a_cone_rests_on_its_base_not_on_its_centre() -> None:
    from wfm_sim.assets.physics.solids import solid

    cone = solid("c", "cone", (0.2, 0.3), "m", vector([0, 0, 0.15]))
    assert corners(cone.shapes[0])[:, 2].min() == pytest.approx(-0.15)
    assert dataclasses.replace(cone, mass=0.0).dynamic is False
