"""CameraWorldMuJoCo-v0 and the joystick."""

import gymnasium as gym
import numpy as np
import pytest

import wfm_sim  # noqa: F401 - registers the environments
from wfm_sim.camera import Intrinsics, move
from wfm_sim.envs.camera_twin import CameraWorldMuJoCoEnv
from wfm_sim.envs.joystick import NAMES, JoystickWrapper
from wfm_sim.errors import UserError

ID = "wfm_sim/CameraWorldMuJoCo-v0"


@pytest.fixture(scope="module")
def env():
    env = gym.make(ID, depth=True, render_mode="rgb_array", disable_env_checker=True, max_episode_steps=5)
    yield env
    env.close()


def test_a_step_is_the_cameras_motion(env):
    _, first = env.reset(seed=2)
    motion = np.array([0.01, -0.02, 0.03, 0.04, -0.05, 0.0], np.float32)
    obs, reward, terminated, truncated, info = env.step(motion)
    assert not info["blocked"]
    np.testing.assert_allclose(info["camera_pose"], move(first["camera_pose"], motion))
    np.testing.assert_allclose(info["camera_intrinsics"], Intrinsics.of_fov(60, (96, 128)).array)
    assert (reward, terminated, truncated, info["is_success"], info["room"]) == (0.0, False, False, False, 2)
    assert info["depth"].shape == (96, 128)
    assert np.array_equal(env.render(), obs["pixels"])


def test_seeds_rooms_and_poses(env):
    obs, info = env.reset(seed=2)
    again, _ = env.reset(seed=2)
    assert np.array_equal(obs["pixels"], again["pixels"])
    other, info3 = env.reset(seed=3, options={"room": 2})
    assert info3["room"] == 2
    assert not np.array_equal(other["pixels"], obs["pixels"])
    there, _ = env.reset(seed=9, options={"room": 2, "pose": info["camera_pose"]})
    assert np.array_equal(there["pixels"], obs["pixels"])


def test_walls_stop_the_feet_but_not_the_head(env):
    _, info = env.reset(seed=2)
    blocked = []
    for _ in range(60):
        before = info["camera_pose"]
        *_, info = env.unwrapped.step([0, 0, 0.2, 0, 0, 0])
        blocked.append(info["blocked"])
        if blocked[-1]:
            break
        assert env.unwrapped.room.clearance(info["camera_pose"][:3, 3])[0] >= 0.12
    assert blocked[-1]
    np.testing.assert_allclose(info["camera_pose"], before, atol=1e-12)
    *_, info = env.unwrapped.step([0, 0, 0.2, 0, 0.1, 0])
    assert info["blocked"]
    np.testing.assert_array_equal(info["camera_pose"][:3, 3], before[:3, 3])
    np.testing.assert_allclose(info["camera_pose"], move(before, [0, 0, 0, 0, 0.1, 0]))


def test_an_episode_is_truncated(env):
    env.reset(seed=2)
    assert [env.step(np.zeros(6, np.float32))[3] for _ in range(5)] == [False] * 4 + [True]


def test_buttons(env):
    joystick = JoystickWrapper(env, step=0.05, turn=0.1)
    assert joystick.action_space == gym.spaces.Discrete(11)
    _, info = joystick.reset(seed=2)
    before = info["camera_pose"]
    expected = {
        "stay": [0] * 6,
        "left": [-0.05, 0, 0, 0, 0, 0],
        "up": [0, -0.05, 0, 0, 0, 0],
        "yaw right": [0, 0, 0, 0, 0.1, 0],
        "pitch down": [0, 0, 0, -0.1, 0, 0],
    }
    for name, motion in expected.items():
        np.testing.assert_allclose(joystick.action(NAMES.index(name)), motion, atol=1e-7)
    *_, info = joystick.act("yaw right")
    # to the right: the new axis forward leans to where the camera's right was
    assert info["camera_pose"][:3, 2] @ before[:3, 0] == pytest.approx(np.sin(0.1), abs=1e-6)
    *_, info = joystick.act("yaw left")
    *_, info = joystick.act("up")
    assert info["camera_pose"][2, 3] > before[2, 3]


@pytest.mark.parametrize(
    "call",
    [
        lambda env: env.reset(options={"rooms": 3}),
        lambda env: env.reset(options={"room": -1}),
        lambda env: env.reset(options={"room": "kitchen"}),
        lambda env: env.reset(seed=2, options={"pose": np.eye(4)}),
        lambda env: env.unwrapped.step([0.0] * 7),
        lambda env: env.unwrapped.step([np.nan] * 6),
        lambda env: env.unwrapped.step("forward"),
        lambda env: JoystickWrapper(env, step=0.3),
        lambda env: JoystickWrapper(env, turn=0),
        lambda env: JoystickWrapper(JoystickWrapper(env)),
        lambda env: JoystickWrapper(env).act("forwards"),
        lambda env: JoystickWrapper(env).step(11),
        lambda _: gym.make(ID, image_size=64),
        lambda _: gym.make(ID, image_size=(8, 8)),
        lambda _: gym.make(ID, vertical_fov=5),
        lambda _: CameraWorldMuJoCoEnv(render_mode="human"),
        lambda _: CameraWorldMuJoCoEnv(max_episode_steps=0),
        lambda _: gym.make(ID, disable_env_checker=True).unwrapped.step(np.zeros(6)),
    ],
)
def test_bad_input(env, call):
    with pytest.raises(UserError):
        call(env)
