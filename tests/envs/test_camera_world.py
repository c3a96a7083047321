"""CameraWorld-v0 over a tiny untrained model: starts, pose and intrinsics in info, snapshots, the vector form."""

from dataclasses import replace
from pathlib import Path

import cv2
import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

import wfm_sim  # noqa: F401 - registers the ids
from wfm_sim.camera import MOTION_HIGH, move
from wfm_sim.envs.camera_starts import CameraStarts
from wfm_sim.envs.camera_world import CameraWorldEnv
from wfm_sim.errors import UserError
from wfm_sim.models.camera_world import CameraWorldModel
from wfm_sim.models.causal_world import CausalWorldModel
from wfm_sim.models.depth import DepthConfig
from wfm_sim.models.presets import nano_rooms, nano_tabletop

ID = "wfm_sim/CameraWorld-v0"


@pytest.fixture(scope="module")
def model() -> CameraWorldModel:
    torch.manual_seed(0)
    cfg = nano_rooms()
    assert cfg.camera is not None
    camera = replace(cfg.camera, points=2 * 48 * 64, depth=DepthConfig((4, 8, 8, 8)))
    dit = replace(cfg.dit, model_channels=48, num_blocks=1, num_heads=2)
    return CameraWorldModel(replace(cfg, frame_size=(48, 64), dit=dit, window=2, camera=camera)).eval()


@pytest.fixture
def image(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)


def test_checker(model: CameraWorldModel) -> None:
    check_env(gym.make(ID, world_model=model, render_mode="rgb_array").unwrapped)


def test_an_image_becomes_a_place(model: CameraWorldModel, image: np.ndarray) -> None:
    env = CameraWorldEnv(model, max_episode_steps=3)  # gym.make would wrap it in a time limit of its own
    obs, info = env.reset(options={"image": image, "fov": 70.0})
    assert np.array_equal(obs["pixels"], image) and "notice" not in info
    assert np.allclose(info["camera_pose"], np.eye(4))
    focal = 24 / np.tan(np.radians(35))
    assert info["camera_intrinsics"] == pytest.approx([focal, focal, 32, 24], rel=1e-5)
    motion = np.array([0.05, 0, 0.1, 0, 0.1, 0], np.float32)
    expected = np.eye(4)
    for i in range(3):
        obs, reward, terminated, truncated, info = env.step(motion)
        expected = move(expected, motion)
        assert np.allclose(info["camera_pose"], expected) and reward == 0 and not terminated
        assert truncated == (i == 2)
    assert env.action_space.contains(MOTION_HIGH) and env.action_space.shape == (6,)


def test_a_picture_of_another_shape_is_cut_not_stretched(model: CameraWorldModel, tmp_path: Path) -> None:
    picture = np.zeros((96, 256, 3), np.uint8)
    picture[:, 64:192] = 200  # what is left of it
    cv2.imwrite(str(tmp_path / "wide.png"), picture)
    env = gym.make(ID, world_model=model).unwrapped
    obs, info = env.reset(options={"image": tmp_path / "wide.png", "intrinsics": [100, 110, 128, 48]})
    assert (obs["pixels"] == 200).all() and "cut to 96x128" in info["notice"]
    assert info["camera_intrinsics"] == pytest.approx([50, 55, 32, 24])


def test_snapshots_and_chunks(model: CameraWorldModel, image: np.ndarray) -> None:
    env = gym.make(ID, world_model=model).unwrapped
    env.reset(options={"image": image}, seed=3)
    motions = np.random.default_rng(1).uniform(-0.1, 0.1, (4, 6)).astype(np.float32)
    kept = env.snapshot()
    singles = [env.step(m) for m in motions]
    env.restore(kept)
    chunk, _, _, _, info = env.step_chunk(motions)
    assert np.array_equal(chunk["pixels"], np.stack([s[0]["pixels"] for s in singles]))
    assert np.allclose(info["camera_pose"], singles[-1][4]["camera_pose"])


def test_rows_of_the_vector_form_are_single_environments(model: CameraWorldModel, image: np.ndarray) -> None:
    envs = gym.make_vec(ID, num_envs=2, world_model=model)
    envs.reset(seed=[5, 6], options={"image": image})
    motions = np.random.default_rng(2).uniform(-0.1, 0.1, (3, 2, 6)).astype(np.float32)
    for m in motions:
        obs, _, _, _, infos = envs.step(m)
    env = gym.make(ID, world_model=model).unwrapped
    env.reset(seed=6, options={"image": image})
    for m in motions:
        single, _, _, _, info = env.step(m[1])
    assert np.abs(single["pixels"].astype(int) - obs["pixels"][1]).max() <= 1
    assert np.allclose(infos["camera_pose"][1], info["camera_pose"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"image": "nowhere.png"}, "no such image file"),
        ({"image": np.zeros((4, 4), np.uint8)}, "an image must be uint8"),
        ({"image": np.zeros((48, 64, 3), np.uint8), "fov": 500}, "10 to 120 degrees"),
        ({"image": np.zeros((48, 64, 3), np.uint8), "intrinsics": "wide"}, "fx, fy, cx, cy"),
        ({"image": np.zeros((48, 64, 3), np.uint8), "room": 1}, "exclude each other"),
        ({"episode": 1}, "made with dataset=path"),
        ({"fov": 60.0}, 'needs "image"'),
        ({"romo": 3}, "did you mean 'room'"),
    ],
)
def test_wrong_starts_get_one_sentence(options: dict[str, object], says: str) -> None:
    starts = CameraStarts((48, 64))
    with pytest.raises(UserError, match=says):
        starts(np.random.default_rng(0), None, options)


def test_a_robots_model_is_no_camera_world() -> None:
    tabletop = CausalWorldModel(nano_tabletop())
    with pytest.raises(UserError, match="driven by camera motion is needed"):
        gym.make(ID, world_model=tabletop)


def test_a_file_that_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(UserError, match="not a readable image"):
        CameraStarts((48, 64))(np.random.default_rng(0), None, {"image": tmp_path / "a.png"})
