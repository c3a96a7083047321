"""Foreign formats, read from real recordings where they are present and from files made up here where not."""

import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from wfm_sim.actions import ACTION_HIGH, apply_action
from wfm_sim.data import open_dataset
from wfm_sim.data.ctrl_world import CtrlWorldDataset
from wfm_sim.data.episode import Episode
from wfm_sim.data.rlds import TFRecordBridge, UnpackedBridge, binary_gripper
from wfm_sim.data.tfrecord import read_example, record_spans
from wfm_sim.data.video import write_video
from wfm_sim.data.worldgym import WorldGymDataset
from wfm_sim.errors import UserError


@pytest.fixture
def worldgym(tiny_episode: Episode, tmp_path: Path) -> Path:
    """One made-up pair: 0.01 m forward per step, no turning, gripper closing half way."""
    rows = np.zeros((6, 10), np.float32)
    rows[1:, 0] = 0.01 * 1.75 / 0.05
    rows[:, 6] = [-1, -1, -1, 1, 1, 1]
    np.savez(tmp_path / "0.npz", rows)
    write_video(tmp_path / "0.mp4", tiny_episode.frames, fps=20)
    return tmp_path


def test_worldgym_rows_become_canonical_actions(worldgym: Path) -> None:
    (episode,) = open_dataset(worldgym)
    assert episode.fps == 5.0  # whatever the header says
    expected = np.zeros((5, 7))
    expected[:, 0] = 0.01
    expected[:, 6] = [1, 1, 0, 0, 0]
    np.testing.assert_allclose(episode.actions, expected, atol=1e-6)


def test_a_truncated_npz_is_told_in_one_sentence(worldgym: Path) -> None:
    path = worldgym / "0.npz"
    path.write_bytes(path.read_bytes()[:120])
    with pytest.raises(UserError, match=r"0\.npz: not a readable npz file"):
        open_dataset(worldgym)[0]
    np.savez(path, other=np.zeros(3))
    with pytest.raises(UserError, match="missing array 'arr_0'"):
        open_dataset(worldgym)[0]
    np.savez(path, np.array([{}], dtype=object))  # would need unpickling
    with pytest.raises(UserError, match="not a readable npz file"):
        open_dataset(worldgym)[0]
    np.savez(path, np.zeros((4, 10)))
    with pytest.raises(UserError, match="4 rows for a video of 6 frames"):
        open_dataset(worldgym)[0]


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        open_dataset(tmp_path / "none")
    with pytest.raises(UserError, match="the folder is empty"):
        open_dataset(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="no known data set"):
        open_dataset(tmp_path)
    (tmp_path / "annotation" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match="no episodes"):
        open_dataset(tmp_path)


def test_real_worldgym(real_data: Path) -> None:
    dataset = open_dataset(real_data / "bridge_worldgym")
    assert isinstance(dataset, WorldGymDataset)
    assert len(dataset) == 5
    for episode in dataset:
        assert episode.frames.shape[1:] == (256, 256, 3)
        assert set(np.unique(episode.actions[:, 6])) <= {0.0, 1.0}
        assert episode.actions[0, 6] == 1.0  # every one begins with an open gripper
        # Within Bridge's own clipping range, turned into another frame.
        assert np.linalg.norm(episode.actions[:, :3], axis=1).max() <= ACTION_HIGH[0] * np.sqrt(3)
    first = dataset.get("000000000")
    # The raw second row, 5/175 of 0.178, -0.590, 0.105; the first frame is taken as level, so nothing is turned.
    np.testing.assert_allclose(first.actions[0, :3], np.array([0.178, -0.590, 0.105]) * 0.05 / 1.75, atol=3e-5)


def test_real_rlds_relabelled_actions_lead_from_pose_to_pose(real_data: Path) -> None:
    dataset = open_dataset(real_data / "bridge_octo" / "raw")
    assert isinstance(dataset, TFRecordBridge)
    assert len(dataset) == 25
    for episode in dataset:
        assert episode.frames.shape == (9, 64, 64, 3)  # 10 steps, the first dropped
        assert episode.states is not None
        led = apply_action(episode.states[:-1], episode.actions)
        np.testing.assert_allclose(led[:, :6], episode.states[1:, :6], atol=2e-6)
        assert episode.instruction


def test_real_rlds_commands_agree_with_what_the_arm_did(real_data: Path) -> None:
    """The recorded commands are base-frame, with x and the gripper in our sense; anything else would fit worse."""
    root = real_data / "bridge_octo" / "raw"
    told = np.concatenate([episode.actions for episode in TFRecordBridge(root, relabel=False)])
    done = np.concatenate([episode.actions for episode in TFRecordBridge(root, relabel=True)])
    correlation = [np.corrcoef(told[:, k], done[:, k])[0, 1] for k in range(6)]
    assert min(correlation) > 0.5, correlation
    assert np.abs(told[:, :3] - done[:, :3]).mean() < np.abs(told[:, :3] * [1, -1, 1] - done[:, :3]).mean()


def test_real_rlds_gripper_command_and_state_have_one_sense(real_data: Path) -> None:
    commands, openings = [], []
    for episode in open_dataset(real_data / "bridge_octo" / "raw"):
        assert episode.states is not None
        commands.append(episode.actions[:, 6])
        openings.append(episode.states[1:, 6])
    command, opening = np.concatenate(commands), np.concatenate(openings)
    assert set(np.unique(command)) <= {0.0, 1.0}
    assert (command == 0).any()
    assert opening[command == 1].mean() > 0.9 > opening[command == 0].mean()


def test_a_gripper_on_the_way_counts_as_where_it_goes() -> None:
    command = np.array([1, 0.7, 0.3, 0, 0, 0.4, 1, 0.8], np.float32)
    np.testing.assert_array_equal(binary_gripper(command), [1, 0, 0, 0, 0, 1, 1, 1])


def test_real_rlds_and_its_unpacked_form_are_the_same(real_data: Path) -> None:
    packed = open_dataset(real_data / "bridge_octo" / "raw")
    unpacked = open_dataset(real_data / "bridge_octo")
    assert isinstance(unpacked, UnpackedBridge)
    by_instruction_and_start = {(e.instruction, e.actions.tobytes()): e for e in packed}
    for episode in unpacked:
        twin = by_instruction_and_start[(episode.instruction, episode.actions.tobytes())]
        np.testing.assert_array_equal(episode.frames, twin.frames)
        np.testing.assert_array_equal(episode.states, twin.states)


def test_broken_tfrecords_are_told_in_one_sentence(real_data: Path, tmp_path: Path) -> None:
    shard = next((real_data / "bridge_octo" / "raw").glob("*.tfrecord*"))
    cut = tmp_path / shard.name
    cut.write_bytes(shard.read_bytes()[:200_000])
    with pytest.raises(UserError, match="cut off after 1 records"):
        open_dataset(tmp_path)
    cut.write_text("this is no TFRecord file")
    with pytest.raises(UserError, match="not a TFRecord file"):
        open_dataset(tmp_path)
    shutil.copy(shard, cut)
    with pytest.raises(UserError, match="no TFRecord shards"):
        open_dataset(tmp_path, split="val")
    with pytest.raises(UserError, match="missing field 'steps/observation/image_7'"):
        open_dataset(tmp_path, camera=7)[0]


def test_tfrecord_by_hand(tmp_path: Path) -> None:
    """A hand-made Example: ints [-1, 300], floats packed and unpacked, bytes."""

    def message(number: int, payload: bytes) -> bytes:
        assert len(payload) < 128
        return bytes([number << 3 | 2, len(payload)]) + payload

    def entry(name: bytes, feature: bytes) -> bytes:
        return message(1, message(1, name) + message(2, feature))

    minus_one = b"\xff" * 9 + b"\x01"
    example = message(
        1,
        entry(b"int", message(3, message(1, minus_one + b"\xac\x02")))
        + entry(b"packed", message(2, message(1, struct.pack("<2f", 1.5, -2.0))))
        + entry(b"single", message(2, b"\x0d" + struct.pack("<f", 0.25)))
        + entry(b"bytes", message(1, message(1, b"ab") + message(1, b""))),
    )
    path = tmp_path / "x.bin"
    path.write_bytes(example)
    read = read_example(path, 0, len(example))
    np.testing.assert_array_equal(read["int"], [-1, 300])
    np.testing.assert_array_equal(read["packed"], [1.5, -2.0])
    np.testing.assert_array_equal(read["single"], [0.25])
    assert read["bytes"] == [b"ab", b""]
    with pytest.raises(UserError, match=r"no tf\.train\.Example"):
        read_example(path, 3, 9)
    # 8 zero bytes: CRC32C 0x8c28b28a is the published test vector's cousin; a wrong checksum must not pass.
    path.write_bytes(struct.pack("<QI", 0, 0) + b"\0\0\0\0")
    with pytest.raises(UserError, match="not a TFRecord file"):
        record_spans(path)


def test_real_ctrl_world(real_data: Path) -> None:
    dataset = open_dataset(real_data / "droid_ctrlworld")
    assert isinstance(dataset, CtrlWorldDataset)
    assert dataset.ids == ("0002", "0006", "0007", "0009", "0011")
    episode = dataset.get("0006")  # its video has 42 frames, its states 41
    assert episode.frames.shape == (41, 192, 320, 3)
    assert episode.states is not None
    assert episode.instruction == "move the towel from left to right"
    # The hand points down there with roll = pi, here with roll = 0, and 0 = open there.
    assert np.abs(episode.states[:, 3:5]).max() < 0.5
    assert episode.states[0, 6] == 1.0
    np.testing.assert_allclose(
        apply_action(episode.states[:-1], episode.actions)[:, :3], episode.states[1:, :3], atol=1e-5
    )
    assert not np.array_equal(open_dataset(real_data / "droid_ctrlworld", camera=1)[0].frames, dataset[0].frames)
    with pytest.raises(UserError, match="camera 5 asked for, 'videos' lists 3"):
        open_dataset(real_data / "droid_ctrlworld", camera=5)[0]
