"""Videos survive being written, and broken ones are told in one sentence."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wfm_sim.data.episode import Episode
from wfm_sim.data.video import read_video, write_video
from wfm_sim.errors import UserError


def test_small_coloured_blocks_survive(tiny_episode: Episode, tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", tiny_episode.frames, fps=5)
    back = read_video(tmp_path / "a.mp4")
    assert back.shape == tiny_episode.frames.shape
    difference = np.abs(back.astype(int) - tiny_episode.frames)
    assert difference.mean() < 1.5
    for t in range(6):  # the middle of the moving 7-pixel block keeps its colour: no halved colour resolution
        middle = back[t, 22:25, 12 + 2 * t : 15 + 2 * t].reshape(-1, 3)
        assert np.abs(middle.mean(0) - (30, 60, 220)).max() < 8


def test_opencv_reads_what_is_written(tiny_episode: Episode, tmp_path: Path) -> None:
    import cv2

    write_video(tmp_path / "a.mp4", tiny_episode.frames, fps=5)
    capture = cv2.VideoCapture(str(tmp_path / "a.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(5)
    frames = []
    while (read := capture.read())[0]:
        frames.append(read[1][..., ::-1])
    assert np.abs(np.stack(frames).astype(int) - tiny_episode.frames).mean() < 2


def test_the_same_frames_give_the_same_file_whatever_is_in_memory(tmp_path: Path) -> None:
    """glibc fills the memory it hands out by MALLOC_PERTURB_, which unmasks an encoder that reads what it never set."""
    script = (
        "import sys, numpy as np\n"
        "from wfm_sim.data.video import write_video\n"
        "rng = np.random.default_rng(5)\n"
        "coarse = rng.integers(0, 255, (16, 16, 3)).repeat(8, 0).repeat(8, 1)\n"
        "frames = [np.roll(coarse, (t, 2 * t), (0, 1))[:64, :64] for t in range(31)]\n"
        "noise = rng.integers(0, 12, (31, 64, 64, 3))\n"
        "write_video(sys.argv[1], np.clip(frames + noise, 0, 255).astype(np.uint8), fps=5)\n"
    )
    written = set()
    for fill in ("0", "77", "165"):
        path = tmp_path / f"{fill}.mp4"
        env = os.environ | {"MALLOC_PERTURB_": fill}
        subprocess.run([sys.executable, "-c", script, str(path)], env=env, check=True)
        written.add(path.read_bytes())
    assert len(written) == 1


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 33, 35), (2, 480, 640)])
def test_any_size_and_length(shape: tuple[int, int, int], rng: np.random.Generator, tmp_path: Path) -> None:
    count, height, width = shape
    coarse = rng.integers(0, 255, (count, 4, 4, 3), dtype=np.uint8)
    frames = coarse.repeat(-(-height // 4), axis=1).repeat(-(-width // 4), axis=2)[:, :height, :width]
    write_video(tmp_path / "a.mp4", frames, fps=4)
    back = read_video(tmp_path / "a.mp4")
    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).mean() < 6


@pytest.mark.parametrize("kept", [0, 200, 0.6])
def test_a_cut_off_video_is_refused(kept: float, tiny_episode: Episode, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    write_video(path, tiny_episode.frames, fps=5)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(UserError, match=r"a\.mp4"):
        read_video(path)


def test_a_video_that_is_missing_or_no_video_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such video"):
        read_video(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("I am no video")
    with pytest.raises(UserError, match="not a readable video"):
        read_video(tmp_path / "text.mp4")


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected uint8"):
        write_video(tmp_path / "a.mp4", np.zeros((2, 8, 8, 3), np.float32), fps=5)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
