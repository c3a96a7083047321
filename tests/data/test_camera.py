"""Clips with cameras: every format there and back, lenses undone, samples, and a sentence for whatever is wrong."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from wfm_sim.camera import CameraPose, Intrinsics, inverse
from wfm_sim.data.camera import normalise_scale, open_camera_dataset, sample_clip, scaled, take
from wfm_sim.data.camera_clip import CameraClip
from wfm_sim.data.camera_colmap import read_colmap, read_colmap_model
from wfm_sim.data.camera_images import Framing, Lens, Rectifier, common_pinhole
from wfm_sim.data.camera_nerfstudio import read_nerfstudio
from wfm_sim.data.camera_realestate import (
    RealEstateCameras,
    read_realestate10k,
    read_realestate10k_poses,
    write_realestate10k_poses,
)
from wfm_sim.data.camera_writer import write_camera_scene
from wfm_sim.data.video import write_video
from wfm_sim.errors import UserError

T, H, W = 5, 24, 32


@pytest.fixture
def clip(rng):
    poses = np.tile(np.eye(4), (T, 1, 1))
    poses[:, :3, :3] = Rotation.random(T, random_state=1).as_matrix()
    poses[:, :3, 3] = np.cumsum(rng.uniform(0.1, 0.3, (T, 3)), axis=0)
    frames = rng.integers(0, 255, (T, H, W, 3)).astype(np.uint8)
    depth = rng.uniform(0.5, 6, (T, H, W)).astype(np.float32)
    return CameraClip(frames, poses, Intrinsics(30.25, 31.5, 16.1, 11.9, H, W), depth, True, 12.5, "here")


def write_png(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image[..., ::-1])


def same_cameras(a, b, tolerance=1e-6):
    np.testing.assert_allclose(a.poses, b.poses, atol=tolerance)
    np.testing.assert_allclose(a.intrinsics.array, b.intrinsics.array, atol=tolerance * 100)


# DL3DV and nerfstudio


def test_dl3dv_there_and_back(clip, tmp_path):
    write_camera_scene(tmp_path / "scene", clip)
    for root in (tmp_path, tmp_path / "scene", tmp_path / "scene" / "transforms.json"):
        data = open_camera_dataset(root)
        assert (data.format, data.ids) == ("dl3dv", ("scene",))
        read = data["scene"]
        same_cameras(read, clip)
        assert np.array_equal(read.frames, clip.frames)
        assert np.abs(read.depth - clip.depth).max() < 6e-4
        assert (read.fps, read.metric, read.id, read.extras["missing"]) == (12.5, True, "scene", [])


def test_what_the_file_says_is_opengl(clip, tmp_path):
    write_camera_scene(tmp_path / "scene", clip)
    content = json.loads((tmp_path / "scene/transforms.json").read_text())
    matrix = np.array(content["frames"][2]["transform_matrix"])
    np.testing.assert_allclose(matrix[:3, 2], -clip.poses[2, :3, 2])  # z backward
    np.testing.assert_allclose(matrix[:3, 3], clip.poses[2, :3, 3])
    assert (content["w"], content["h"]) == (4 * W, 4 * H)


def test_missing_images_are_told(clip, tmp_path):
    write_camera_scene(tmp_path / "scene", dataclasses.replace(clip, depth=None), image_format="jpg")
    (tmp_path / "scene/images_4/frame_00002.jpg").unlink()
    read = read_nerfstudio(tmp_path / "scene")
    assert read.extras["missing"] == ["images/frame_00002.jpg"]
    np.testing.assert_allclose(read.poses, clip.poses[[0, 2, 3, 4]], atol=1e-12)
    assert read.depth is None


def test_the_resolution_that_fits(clip, tmp_path):
    write_camera_scene(tmp_path / "scene", clip)
    big = cv2.resize(clip.frames[0], (4 * W, 4 * H))
    for t in range(T):
        write_png(tmp_path / f"scene/images/frame_{t + 1:05d}.png", big)
    assert read_nerfstudio(tmp_path / "scene").extras["factor"] == 1
    assert read_nerfstudio(tmp_path / "scene", factor=4).frames.shape == (T, H, W, 3)
    assert read_nerfstudio(tmp_path / "scene", size=(H // 2, W // 2)).extras["factor"] == 4
    assert read_nerfstudio(tmp_path / "scene", size=(H + 1, W)).extras["factor"] == 1
    with pytest.raises(UserError, match="factor"):
        read_nerfstudio(tmp_path / "scene", factor=3)


def test_intrinsics_of_each_frame_and_blenders_angle(clip, tmp_path):
    write_camera_scene(tmp_path / "scene", clip)
    path = tmp_path / "scene/transforms.json"
    content = json.loads(path.read_text())
    names = ("w", "h", "fl_x", "fl_y", "cx", "cy")
    for row in content["frames"]:
        row |= {name: content[name] for name in names}
    for name in names:
        del content[name]
    path.write_text(json.dumps(content))
    same_cameras(read_nerfstudio(path), clip)
    for row in content["frames"]:
        for name in names:
            del row[name]
        row["file_path"] = row["file_path"].removesuffix(".png")
    path.write_text(json.dumps(content | {"camera_angle_x": 2 * np.arctan(W / 2 / 40)}))
    np.testing.assert_allclose(read_nerfstudio(path).intrinsics.array, [40, 40, W / 2, H / 2])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.pop("frames"), "frames"),
        (lambda c: c.update(frames=[]), "no frames"),
        (lambda c: c["frames"][1].pop("transform_matrix"), "transform_matrix"),
        (lambda c: c["frames"][1].update(transform_matrix=[[1, 0], [0, 1]]), "4x4"),
        (lambda c: c["frames"][1]["transform_matrix"][0].__setitem__(0, 3.0), "orthonormal"),
        (lambda c: c["frames"][1]["transform_matrix"][0].__setitem__(3, float("nan")), "finite"),
        (lambda c: c.update(camera_model="OPENCV_FISHEYE"), "OPENCV_FISHEYE"),
        (lambda c: c.update(fl_x="wide"), "fl_x"),
        (lambda c: c.update(fl_x=0), "focal"),
        (lambda c: c.pop("fl_x"), "fl_x"),
        (lambda c: c.update(w=4 * H), "shape"),
        (lambda c: c.update(w=float("nan")), "w is nan"),
        (lambda c: c.update(fps=0), "fps is 0"),
        (lambda c: c.update(fps="fast"), "fps is 'fast'"),
        (lambda c: c.update(fps=None), "fps"),
        (lambda c: c.update(depth_unit_scale_factor="mm"), "depth_unit_scale_factor"),
        (lambda c: [row.update(file_path="gone/" + row["file_path"]) for row in c["frames"]], "none of its 5 images"),
    ],
)
def test_broken_transforms(clip, tmp_path, change, says):
    write_camera_scene(tmp_path / "scene", clip)
    path = tmp_path / "scene/transforms.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=says) as error:
        open_camera_dataset(tmp_path)[0]
    assert str(tmp_path) in str(error.value)


def test_a_size_that_is_no_number_is_told_before_a_folder_is_chosen_by_it(clip, tmp_path):
    write_camera_scene(tmp_path / "scene", clip)
    path = tmp_path / "scene/transforms.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"w": "wide"}))
    with pytest.raises(UserError, match="w is 'wide'"):
        open_camera_dataset(tmp_path, size=(H, W))[0]


def test_truncated_json_and_images(clip, tmp_path):
    write_camera_scene(tmp_path / "scene", clip)
    image = tmp_path / "scene/images_4/frame_00001.png"
    image.write_bytes(image.read_bytes()[:40])
    with pytest.raises(UserError, match="frame_00001"):
        open_camera_dataset(tmp_path)[0]
    path = tmp_path / "scene/transforms.json"
    path.write_text(path.read_text()[:200])
    with pytest.raises(UserError, match="not valid JSON"):
        open_camera_dataset(tmp_path)[0]


# Lenses and sizes


def test_distortion_is_undone():
    pinhole = Intrinsics(200, 205, 163, 118, 240, 320)
    lens = Lens(pinhole, (-0.25, 0.08, 0.001, -0.002, 0.0))
    target = common_pinhole(lens)
    rectify = Rectifier(target)
    # a dot for each of some directions, drawn where the lens shows it, must come out where the pinhole does
    for x, y in ((0.0, 0.0), (0.3, 0.2), (-0.4, 0.25), (0.2, -0.35)):
        r2 = x * x + y * y
        k1, k2, p1, p2, _ = lens.distortion
        radial = 1 + k1 * r2 + k2 * r2**2
        u = pinhole.fx * (x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)) + pinhole.cx
        v = pinhole.fy * (y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y) + pinhole.cy
        rows, columns = np.mgrid[:240, :320] + 0.5
        dot = (255 * np.exp(-((columns - u) ** 2 + (rows - v) ** 2) / 18)).astype(np.uint8)
        seen = rectify(np.repeat(dot[..., None], 3, axis=2), lens)[..., 0].astype(float)
        found = np.array([(seen * columns).sum(), (seen * rows).sum()]) / seen.sum()
        np.testing.assert_allclose(found, [target.fx * x + target.cx, target.fy * y + target.cy], atol=0.15)


def test_framing_keeps_points_where_the_intrinsics_say():
    pinhole = Intrinsics(100, 100, 80, 60, 120, 160)
    framing = Framing(pinhole, (30, 30))
    k = framing.intrinsics
    rows, columns = np.mgrid[:120, :160] + 0.5
    for x, y in ((0, 0), (0.3, 0.2), (-0.4, -0.3)):
        dot = 255 * np.exp(-((columns - 100 * x - 80) ** 2 + (rows - 100 * y - 60) ** 2) / 50)
        small = framing.apply(np.repeat(dot[..., None], 3, axis=2).astype(np.uint8))[..., 0].astype(float)
        r, c = np.mgrid[:30, :30] + 0.5
        found = np.array([(small * c).sum(), (small * r).sum()]) / small.sum()
        np.testing.assert_allclose(found, [k.fx * x + k.cx, k.fy * y + k.cy], atol=0.05)


# RealEstate10K


def cameras_of(clip):
    normalised = clip.intrinsics.array / [W, H, W, H]
    times = 1_000_000 + 100_000 * np.arange(T)
    return RealEstateCameras(
        "abc", "https://example.org/v", times, np.tile(normalised, (T, 1)), np.zeros((T, 2)), clip.poses
    )


def test_realestate_there_and_back(clip, tmp_path):
    write_realestate10k_poses(tmp_path / "abc.txt", cameras_of(clip))
    poses = read_realestate10k_poses(tmp_path / "abc.txt")
    assert (poses.url, len(poses)) == ("https://example.org/v", T)
    np.testing.assert_allclose(poses.poses, clip.poses, atol=1e-6)
    with pytest.raises(UserError, match="read_realestate10k_poses"):
        open_camera_dataset(tmp_path)
    for t in (0, 1, 3, 4):
        write_png(tmp_path / f"abc/{1_000_000 + 100_000 * t}.png", clip.frames[t])
    data = open_camera_dataset(tmp_path)
    assert (data.format, data.ids) == ("realestate10k", ("abc",))
    read = data[0]
    assert np.array_equal(read.frames, clip.frames[[0, 1, 3, 4]])
    np.testing.assert_allclose(read.poses, clip.poses[[0, 1, 3, 4]], atol=1e-6)
    np.testing.assert_allclose(read.intrinsics.array, clip.intrinsics.array, atol=1e-6)
    assert read.extras["missing"] == [1_200_000]
    assert read.fps == pytest.approx(10)


@pytest.mark.parametrize("cut", [True, False])
def test_realestate_from_a_video(clip, tmp_path, cut):
    write_realestate10k_poses(tmp_path / "abc.txt", cameras_of(clip))
    # the whole video at 10 frames per second, whose second one begins with the first pose, or just the five frames
    grey = np.repeat(np.arange(0, 200, 10, np.uint8), H * W * 3).reshape(20, H, W, 3)
    write_video(tmp_path / "abc.mp4", grey[10:15] if cut else grey, 10.0)
    read = read_realestate10k(tmp_path / "abc.txt")
    assert np.abs(read.frames.mean(axis=(1, 2, 3)) - np.arange(100, 150, 10)).max() < 3


def test_a_video_that_is_too_short(clip, tmp_path):
    write_realestate10k_poses(tmp_path / "abc.txt", cameras_of(clip))
    write_video(tmp_path / "abc.mp4", clip.frames[:3], 10.0)
    with pytest.raises(UserError, match="3 frames"):
        read_realestate10k(tmp_path / "abc.txt")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no poses"),
        ("https://example.org\n", "no poses"),
        ("https://example.org\n1 0.5 0.8 0.5 0.5 0 0 1 0 0\n", "19 numbers"),
        ("https://example.org\n1 0.5 0.8 0.5 0.5 0 0 " + "x " * 12 + "\n", "19 numbers"),
        ("https://example.org\n1 0.5 0.8 0.5 0.5 0 0 " + "1 " * 12 + "\n", "orthonormal"),
        ("https://example.org\n1 0.5 0.8 0.5 0.5 0 0 -1 0 0 0 0 1 0 0 0 0 1 0\n", "reflection"),
    ],
)
def test_broken_camera_files(tmp_path, text, says):
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(UserError, match=says):
        read_realestate10k_poses(tmp_path / "a.txt")


def test_published_camera_files(real_data):
    files = [path for path in sorted((real_data / "poses_realestate10k").glob("*.txt")) if path.stem != "LICENSE"]
    assert len(files) == 10
    for path in files:
        cameras = read_realestate10k_poses(path)
        assert len(cameras) == 16
        assert cameras.url.startswith("https://")
        r = cameras.poses[:, :3, :3]
        np.testing.assert_allclose(r @ r.swapaxes(1, 2), np.tile(np.eye(3), (16, 1, 1)), atol=1e-6)
        np.testing.assert_allclose(np.linalg.det(r), 1, atol=1e-6)
        row = np.array(path.read_text().splitlines()[3].split(), float)
        np.testing.assert_allclose(inverse(cameras.poses[2])[:3].ravel(), row[7:], atol=1e-6)


# COLMAP


@pytest.fixture
def colmap(clip, tmp_path):
    """The clip as a COLMAP model, text and binary, written by pycolmap, with its pictures."""
    import pycolmap

    model = pycolmap.Reconstruction()
    camera = pycolmap.Camera(
        model="OPENCV", width=W, height=H, params=[*clip.intrinsics.array, 0, 0, 0, 0], camera_id=3
    )
    model.add_camera_with_trivial_rig(camera)
    for t in range(T):
        name = f"view_{t + 1}.png"
        image = pycolmap.Image(name=name, camera_id=3, image_id=T - t)
        w2c = inverse(clip.poses[t])
        pose = pycolmap.Rigid3d(pycolmap.Rotation3d(w2c[:3, :3]), w2c[:3, 3])
        model.add_image_with_trivial_frame(image, pose)
        write_png(tmp_path / "scene/images" / name, clip.frames[t])
    for kind in ("text", "binary"):
        (tmp_path / kind).mkdir()
        getattr(model, f"write_{kind}")(str(tmp_path / kind))
    return tmp_path


@pytest.mark.parametrize("kind", ["text", "binary"])
def test_colmap_there_and_back(clip, colmap, kind):
    (colmap / "scene/sparse").mkdir()
    (colmap / kind).rename(colmap / "scene/sparse/0")
    for root in (colmap, colmap / "scene"):
        data = open_camera_dataset(root)
        assert (data.format, data.ids) == ("colmap", ("scene",))
        read = data[0]
        same_cameras(read, clip)
        assert np.array_equal(read.frames, clip.frames)
        assert read.extras["names"] == [f"view_{t + 1}.png" for t in range(T)]
    (colmap / "scene/images/view_2.png").unlink()
    assert data[0].extras["missing"] == ["view_2.png"]


@pytest.mark.parametrize("kind", ["text", "binary"])
@pytest.mark.parametrize("name", ["cameras", "images"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.9])
def test_a_model_cut_short(colmap, kind, name, part):
    path = colmap / kind / (name + (".txt" if kind == "text" else ".bin"))
    data = path.read_bytes()
    path.write_bytes(data[: int(part * len(data))])
    try:
        _, images = read_colmap_model(colmap / kind)
    except UserError:
        return
    # text may be cut between two images, or in the middle of a point
    assert kind == "text"
    assert len(images) < T or part > 0.8


def test_broken_models(colmap, tmp_path):
    with pytest.raises(UserError, match="no pictures"):
        read_colmap(colmap / "text")
    with pytest.raises(UserError, match="no COLMAP model"):
        read_colmap_model(tmp_path / "scene")
    cameras, images = colmap / "text/cameras.txt", colmap / "text/images.txt"
    text = cameras.read_text()
    cameras.write_text(text.replace("OPENCV", "FOV"))
    with pytest.raises(UserError, match="FOV"):
        read_colmap_model(colmap / "text")
    cameras.write_text(text.replace("\n3 ", "\n4 "))
    with pytest.raises(UserError, match="camera 3"):
        read_colmap_model(colmap / "text")
    cameras.write_text(text)
    lines = [line.split() for line in images.read_text().splitlines()]
    row = next(line for line in lines if line and line[-1] == "view_1.png")
    row[1] = "3.0"
    images.write_text("\n".join(" ".join(line) for line in lines))
    with pytest.raises(UserError, match="quaternion"):
        read_colmap_model(colmap / "text")


def test_the_real_scene(real_data):
    import pycolmap

    data = open_camera_dataset(real_data / "scene_lund_door", size=(192, 128))
    clip = data[0]
    assert clip.frames.shape == (12, 192, 128, 3)
    truth = pycolmap.Reconstruction(str(real_data / "scene_lund_door/colmap_ground_truth"))
    by_name = {image.name: image.cam_from_world().matrix() for image in truth.images.values()}
    for name, pose in zip(clip.extras["names"], clip.poses, strict=True):
        np.testing.assert_allclose(CameraPose(pose).w2c[:3], by_name[name], atol=1e-6)
    # the lens: what a pixel of the undistorted picture shows is where COLMAP projects its ray to
    (camera,) = truth.cameras.values()
    lenses, _ = read_colmap_model(real_data / "scene_lund_door/colmap_ground_truth")
    (lens,) = lenses.values()
    target = common_pinhole(lens)
    map_x, map_y = Rectifier(target)._map(lens)
    for row, column in ((10, 20), (700, 600), (1900, 1250)):
        ray = np.linalg.solve(target.matrix, [column + 0.5, row + 0.5, 1])
        projected = camera.img_from_cam(ray)
        np.testing.assert_allclose([map_x[row, column] + 0.5, map_y[row, column] + 0.5], projected, atol=1e-3)


# What is taken from clips


def test_samples_by_baseline(clip, rng):
    index = sample_clip(clip, 3, (0.0, 100.0), rng).extras["index"]
    assert len(set(np.diff(index))) == 1
    for _ in range(20):
        some = sample_clip(clip, 2, (0.5, 0.9), rng)
        assert 0.5 <= np.linalg.norm(some.poses[1, :3, 3] - some.poses[0, :3, 3]) <= 0.9
        assert np.array_equal(some.frames, clip.frames[some.extras["index"]])
        assert np.array_equal(some.depth, clip.depth[some.extras["index"]])
    one = sample_clip(clip, 3, (0.0, 100.0), np.random.default_rng(4))
    two = sample_clip(clip, 3, (0.0, 100.0), np.random.default_rng(4))
    assert np.array_equal(one.extras["index"], two.extras["index"])
    assert len(sample_clip(clip, 1, (0, 0), rng)) == 1
    assert take(clip, [0, 2, 4]).fps == clip.fps / 2


@pytest.mark.parametrize(
    ("frames", "baseline"), [(0, (0, 9)), (T + 1, (0, 9)), (2, (50, 60)), (2, (3, 1)), (2, (-1, 1))]
)
def test_samples_that_cannot_be(clip, rng, frames, baseline):
    with pytest.raises(UserError):
        sample_clip(clip, frames, baseline, rng)


def test_scale(clip):
    unit = normalise_scale(clip)
    assert np.linalg.norm(unit.poses[:, :3, 3] - unit.poses[0, :3, 3], axis=1).max() == pytest.approx(1)
    factor = unit.extras["scale"]
    np.testing.assert_allclose(unit.depth, clip.depth * factor, rtol=1e-6)
    assert not unit.metric
    np.testing.assert_allclose(scaled(unit, 1 / factor).poses, clip.poses)
    still = dataclasses.replace(clip, poses=np.tile(clip.poses[:1], (T, 1, 1)))
    for bad in (lambda: normalise_scale(still), lambda: scaled(clip, 0.0), lambda: take(clip, [])):
        with pytest.raises(UserError):
            bad()


def test_folders_that_hold_no_clips(tmp_path, clip):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes/a.txt").write_text("milk")
    for path, says in (("nowhere", "no such folder"), ("empty", "empty"), ("notes", "no clips"), ("notes/a.txt", "19")):
        with pytest.raises(UserError, match=says):
            open_camera_dataset(tmp_path / path)
    with pytest.raises(UserError, match="size"):
        open_camera_dataset(tmp_path, size=(0, 5))
    write_camera_scene(tmp_path / "scene", clip)
    with pytest.raises(UserError, match="exists"):
        write_camera_scene(tmp_path / "scene", clip)
    with pytest.raises(UserError, match="did you mean 'scene'"):
        open_camera_dataset(tmp_path)["scenes"]
