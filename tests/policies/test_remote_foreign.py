"""Our client against openpi's and RoboArena's protocols, served with openpi's own msgpack code."""

import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from websockets.sync.server import ServerConnection

from wfm_sim.action_contract import named_contract
from wfm_sim.actions import CANONICAL, RLDS_BRIDGE, apply_action, convert
from wfm_sim.errors import UserError
from wfm_sim.policies.remote import OpenpiPolicy
from wfm_sim.policies.remote_actions import DROID_VELOCITY, canonical_actions, droid_pose
from wfm_sim.policies.remote_connection import Limits
from wfm_sim.policies.remote_name import remote_policy
from wfm_sim.policies.remote_observations import ObservationKeys, RoboArenaConfig, resized

Raw = Callable[..., int]
LIMITS = Limits(connect_timeout=5, infer_timeout=5, attempts=1)
WORDS = ["push the red block", "pick the blue block"]


@pytest.fixture
def codec() -> Any:
    return pytest.importorskip("openpi_client.msgpack_numpy", reason="openpi-client is not installed: make setup")


def openpi_server(codec: Any, log: list[Any], infer: Callable[[dict], Any], metadata: dict) -> Any:
    """As openpi serves: metadata, then a reply per observation; RoboArena's `endpoint` where there is one."""

    def handle(connection: ServerConnection) -> None:
        packer = codec.Packer()
        connection.send(packer.pack(metadata))
        while True:
            request = codec.unpackb(connection.recv())
            log.append(request)
            if request.get("endpoint") == "reset":
                connection.send("reset successful")
            else:
                connection.send(packer.pack(infer(request)))

    return handle


def observation(rng: np.random.Generator, rows: int = 2) -> dict[str, np.ndarray]:
    poses = np.array([[0.3, 0.0, 0.1, 0.0, 0.0, 0.4, 1.0]] * rows, np.float32)
    poses[:, :2] += rng.uniform(-0.05, 0.05, (rows, 2)).astype(np.float32)
    return {"pixels": rng.integers(0, 256, (rows, 48, 64, 3)).astype(np.uint8), "agent_pos": poses}


def begin(policy: OpenpiPolicy, mask: Any = None) -> None:
    policy.reset({"instruction": np.array(WORDS, dtype=object)}, [0, 1], mask)


def test_what_an_openpi_server_is_sent_and_the_chunks_it_sends(
    codec: Any, serve_raw: Raw, rng: np.random.Generator
) -> None:
    from openpi_client import image_tools

    log: list[Any] = []
    chunk = rng.uniform(-0.02, 0.02, (6, 7))

    def infer(request: dict) -> dict:
        return {"actions": chunk + len(log), "server_timing": {"infer_ms": 1.0}, "state": request["eef"]}

    port = serve_raw(openpi_server(codec, log, infer, {"some": "metadata"}))
    keys = ObservationKeys({"image/base": "pixels"}, "eef", "task", (224, 224), ("image/wrist",))
    policy = OpenpiPolicy("127.0.0.1", port, actions="canonical", horizon=4, keys=keys, limits=LIMITS)
    begin(policy)
    assert policy.metadata == {"some": "metadata"}
    seen = [observation(rng) for _ in range(6)]
    actions = np.stack([policy.act(each) for each in seen])

    # Two rows, asked at steps 0 and 4, each time with that step's observation.
    assert len(log) == 4
    for request, step, row in zip(log, (0, 0, 4, 4), (0, 1, 0, 1), strict=True):
        assert sorted(request) == ["eef", "image/base", "image/wrist", "task"]
        np.testing.assert_array_equal(request["eef"], seen[step]["agent_pos"][row])
        expected = image_tools.resize_with_pad(seen[step]["pixels"][row], 224, 224)
        np.testing.assert_array_equal(request["image/base"], expected)
        assert not request["image/wrist"].any() and request["image/wrist"].shape == (224, 224, 3)
        assert request["task"] == WORDS[row]
    for step in range(6):
        for row in range(2):
            at, asked = step % 4, (1 if step < 4 else 3) + row
            np.testing.assert_array_equal(actions[step, row], (chunk[at] + asked).astype(np.float32))
    # A row that begins anew drops what is left of its chunk; the other one goes on with its own.
    begin(policy, mask=np.array([False, True]))
    after = policy.act(observation(rng))
    assert len(log) == 5
    np.testing.assert_array_equal(after[1], (chunk[0] + 5).astype(np.float32))
    np.testing.assert_array_equal(after[0], (chunk[2] + 3).astype(np.float32))
    policy.close()


def test_an_action_convention_is_converted_where_the_action_is_executed(codec: Any, serve_raw: Raw, rng: Any) -> None:
    chunk = np.concatenate([rng.uniform(-0.04, 0.04, (3, 6)), [[1.0], [0.0], [0.5]]], axis=1)
    port = serve_raw(openpi_server(codec, [], lambda request: {"actions": chunk}, {}))
    policy = remote_policy(f"openpi://127.0.0.1:{port}?actions=bridge-rlds")
    begin(policy)
    for step in range(3):
        seen = observation(rng)
        expected = convert(np.stack([chunk[step]] * 2), RLDS_BRIDGE, CANONICAL, seen["agent_pos"])
        np.testing.assert_allclose(policy.act(seen), expected, atol=1e-6)
    policy.close()


def test_a_server_may_declare_its_contract(codec: Any, serve_raw: Raw, rng: np.random.Generator) -> None:
    metadata = {"action_contract": named_contract("irasim-x20").to_json()}
    port = serve_raw(openpi_server(codec, [], lambda request: {"actions": np.full((1, 7), 0.2)}, metadata))
    policy = OpenpiPolicy("127.0.0.1", port, limits=LIMITS)
    begin(policy)
    np.testing.assert_allclose(policy.act(observation(rng)), [[0.01] * 6 + [0.8]] * 2, atol=1e-7)
    policy.close()
    for wrong in ({"kind": "guess"}, 5, {"rate_hz": 7.0}, {"translation_scale": "big"}):
        port = serve_raw(openpi_server(codec, [], lambda request: {}, {"action_contract": wrong}))
        with pytest.raises(UserError, match="declares no sound contract"):
            begin(OpenpiPolicy("127.0.0.1", port, limits=LIMITS))


def test_horizon_and_chunk_must_fit(codec: Any, serve_raw: Raw, rng: np.random.Generator) -> None:
    port = serve_raw(openpi_server(codec, [], lambda request: {"actions": np.zeros((4, 7))}, {}))
    for options, said in (
        ({"actions": "canonical", "horizon": 5}, "a chunk of 4 actions is shorter than the horizon of 5"),
        (
            {"actions": "libero", "horizon": 3},
            "3 'libero' actions are less than one step: they come at 20 Hz, 4 to a step",
        ),
    ):
        policy = OpenpiPolicy("127.0.0.1", port, limits=LIMITS, **options)  # type: ignore[arg-type]
        begin(policy)
        with pytest.raises(UserError, match=re.escape(said)):
            policy.act(observation(rng))
        policy.close()


ARENA = RoboArenaConfig((180, 320), needs_wrist_camera=False, needs_session_id=True, action_space="cartesian_position")


def test_roboarena(codec: Any, serve_raw: Raw, rng: np.random.Generator) -> None:
    log: list[Any] = []
    # 15 Hz absolute poses: 2 cm ahead in three steps, hand straight down (roll 180 degrees in DROID), closing.
    targets = np.array([[0.3, 0.0, 0.1, np.pi, 0.0, 0.4, 0.0]] * 6)
    targets[:, 0] += np.linspace(0.02 / 3, 0.04, 6)
    targets[3:, 6] = 1.0
    port = serve_raw(openpi_server(codec, log, lambda request: {"actions": targets}, asdict(ARENA)))
    policy = OpenpiPolicy("127.0.0.1", port, limits=LIMITS)  # recognised by its first message
    begin(policy)
    seen = observation(rng)
    seen["agent_pos"][:] = [0.3, 0.0, 0.1, 0.0, 0.0, 0.4, 1.0]
    for gripper in (1.0, 0.0):
        actions = policy.act(seen)
        seen["agent_pos"] = apply_action(seen["agent_pos"], actions).astype(np.float32)
        np.testing.assert_allclose(actions[:, 6], gripper)
    np.testing.assert_allclose(seen["agent_pos"][:, :6], [[0.34, 0.0, 0.1, 0.0, 0.0, 0.4]] * 2, atol=1e-6)

    assert [request["endpoint"] for request in log] == ["infer"] * 2  # six actions at 15 Hz are two steps
    assert log[0]["observation/exterior_image_0_left"].shape == (180, 320, 3)
    assert not [key for key in log[0] if "wrist" in key or "right" in key]
    np.testing.assert_allclose(log[0]["observation/cartesian_position"], [0.3, 0, 0.1, np.pi, 0, 0.4], atol=1e-6)
    np.testing.assert_array_equal(log[0]["observation/gripper_position"], [0.0])
    assert log[0]["prompt"] == WORDS[0] and log[0]["session_id"] != log[1]["session_id"]
    begin(policy, mask=np.array([True, False]))
    assert log[2] == {"endpoint": "reset", "session_id": log[0]["session_id"]}
    policy.act(seen)
    assert log[3]["session_id"] not in (log[0]["session_id"], log[1]["session_id"])
    assert log[4]["session_id"] == log[1]["session_id"]
    policy.close()


def test_what_a_roboarena_server_wants_and_we_have_not(codec: Any, serve_raw: Raw, rng: np.random.Generator) -> None:
    def policy_for(config: RoboArenaConfig, log: list[Any], **options: Any) -> OpenpiPolicy:
        port = serve_raw(openpi_server(codec, log, lambda request: np.zeros((3, 7)), asdict(config)))
        return OpenpiPolicy("127.0.0.1", port, limits=LIMITS, **options)

    with pytest.raises(UserError, match="sends joint_velocity actions, which only the arm's kinematics"):
        begin(policy_for(RoboArenaConfig(action_space="joint_velocity"), []))
    wanting = RoboArenaConfig(None, True, 2, True, action_space="cartesian_velocity")
    policy = policy_for(wanting, [])
    begin(policy)
    with pytest.raises(
        UserError, match=r"wants the images observation/exterior_image_0_right, .*wrist_image_right, which"
    ):
        policy.act(observation(rng))
    policy.close()
    cameras = {f"observation/exterior_image_{i}_{side}": "pixels" for i in (0, 1) for side in ("left", "right")}
    blank = ("observation/wrist_image_left", "observation/wrist_image_right")
    log: list[Any] = []
    policy = policy_for(wanting, log, cameras=cameras, blank=blank)
    begin(policy)
    assert policy.act(observation(rng)).shape == (2, 7)  # a bare array, as older RoboArena servers send
    assert {*cameras, *blank} <= set(log[0]) and log[0]["observation/wrist_image_left"].shape == (48, 64, 3)
    policy.close()
    port = serve_raw(openpi_server(codec, [], lambda request: {}, {}))
    with pytest.raises(UserError, match="sent no RoboArena config as its first message"):
        begin(OpenpiPolicy("127.0.0.1", port, dialect="roboarena", limits=LIMITS))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_external_cameras": 3}, "n_external_cameras must be 0, 1 or 2, not 3"),
        ({"needs_session_id": "yes"}, "needs_session_id must be true or false"),
        ({"image_resolution": [224]}, "image size must be"),
        ({"image_resolution": [10**6, 10**6]}, "image size must be"),
        ({"action_space": "cartesian_postion"}, "did you mean 'cartesian_position'?"),
        ({"action_space": ["joint_position"]}, "unknown RoboArena action space"),
    ],
)
def test_configs_that_are_none(change: dict, said: str) -> None:
    assert RoboArenaConfig.read({**asdict(ARENA), "image_resolution": [180, 320], "further": 1}) == ARENA
    with pytest.raises(UserError) as caught:
        RoboArenaConfig.read({**asdict(ARENA), **change})
    assert said in str(caught.value)


def test_droid_velocity_is_in_the_base_frame(rng: np.random.Generator) -> None:
    for _ in range(20):
        pose = np.concatenate([rng.uniform(-0.3, 0.3, 3), rng.uniform(-1, 1, 3), [1.0]])
        velocity = np.concatenate([rng.uniform(-0.5, 0.5, 6), [0.25]])
        (action,) = canonical_actions(DROID_VELOCITY, np.stack([velocity] * 3), pose)
        reached = apply_action(pose, action)
        np.testing.assert_allclose(reached[:3], pose[:3] + 3 * 0.075 * velocity[:3], atol=1e-6)
        turn = Rotation.from_euler("xyz", 0.15 * velocity[3:6])
        expected = turn * turn * turn * Rotation.from_euler("xyz", pose[3:6])
        assert (Rotation.from_euler("xyz", reached[3:6]).inv() * expected).magnitude() < 1e-5
        assert reached[6] == 0.75


def test_numbers_that_are_no_movement() -> None:
    from dataclasses import replace

    pose = np.zeros(7)
    quaternion = replace(named_contract("canonical"), name="quaternions", rotation="quat_xyzw")
    with pytest.raises(UserError, match=r"'quaternions' actions .* are no movement"):
        canonical_actions(quaternion, np.zeros((1, 8)), pose)
    tiny = replace(named_contract("canonical"), name="tiny", translation_scale=1e-300)
    with pytest.raises(UserError, match=r"'tiny' actions .* are beyond all bounds"):
        canonical_actions(tiny, np.ones((1, 7)), pose)


def test_going_where_one_is_is_no_movement(rng: np.random.Generator) -> None:
    for _ in range(20):
        pose = np.concatenate([rng.uniform(-0.3, 0.3, 3), rng.uniform(-1, 1, 3), [0.25]])
        position, gripper = droid_pose(pose)
        row = np.concatenate([position, gripper]).astype(np.float64)
        (action,) = canonical_actions(named_contract("droid-pose"), np.stack([row] * 3), pose)
        np.testing.assert_allclose(action, [0] * 6 + [0.25], atol=1e-6)


def test_a_slower_server_is_spread_over_steps(codec: Any, serve_raw: Raw, rng: np.random.Generator) -> None:
    from dataclasses import replace

    log: list[Any] = []
    half_rate = replace(named_contract("canonical"), name="half", rate_hz=2.5)
    action = np.array([[0.04, 0.0, 0.02, 0.0, 0.0, 0.2, 0.0]])
    port = serve_raw(openpi_server(codec, log, lambda request: {"actions": action}, {}))
    policy = OpenpiPolicy("127.0.0.1", port, actions=half_rate, limits=LIMITS)
    begin(policy)
    pose = observation(rng)["agent_pos"].astype(np.float64)
    end = apply_action(pose, action)
    for _ in range(2):
        pose = apply_action(pose, policy.act({"agent_pos": pose, "pixels": np.zeros((2, 8, 8, 3), np.uint8)}))
    np.testing.assert_allclose(pose, end, atol=1e-6)
    assert len(log) == 2
    policy.close()


@pytest.mark.parametrize("shape", [(64, 64), (48, 64), (100, 30), (20, 300), (224, 224)])
@pytest.mark.parametrize("size", [(224, 224), (180, 320), (33, 20)])
def test_resizing_is_openpis(shape: tuple[int, int], size: tuple[int, int], rng: np.random.Generator) -> None:
    tools = pytest.importorskip("openpi_client.image_tools", reason="openpi-client is not installed: make setup")
    image = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    ours = resized(image, size)
    assert ours.shape == (*size, 3)
    np.testing.assert_array_equal(ours, tools.resize_with_pad(image, *size))
