import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wfm_sim.errors import UserError
from wfm_sim.evals.rerun_log import Clip, write_recording


def clip(real_frames: int = 4, imagined_frames: int = 4) -> Clip:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (max(real_frames, imagined_frames), 16, 16, 3), dtype=np.uint8)
    return Clip(
        caption="push the red block",
        real=frames[:real_frames],
        imagined=255 - frames[:imagined_frames],
        actions=rng.normal(size=(real_frames - 1, 7)).astype(np.float32),
        state=np.zeros((real_frames, 7), np.float32),
        real_reward=np.arange(real_frames - 1.0),
        imagined_reward=np.arange(imagined_frames - 1.0),
    )


def test_a_recording_holds_both_worlds_on_their_timelines(tmp_path: Path) -> None:
    path = write_recording(tmp_path / "out" / "demo.rrd", [clip(), clip(4, 6)])
    assert [p.name for p in path.parent.iterdir()] == ["demo.rrd"]
    listing = subprocess.run(
        [str(Path(sys.executable).parent / "rerun"), "rrd", "print", "-vv", str(path)], capture_output=True, text=True
    )
    assert listing.returncode == 0, listing.stderr
    for entity in ("/real/front", "/imagined/front", "/diff", "/action", "/state", "/reward/imagined", "/episode"):
        assert entity in listing.stdout
    assert "frame_index" in listing.stdout and "timestamp" in listing.stdout


def test_no_clips_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one clip"):
        write_recording(tmp_path / "none.rrd", [])
    assert not list(tmp_path.iterdir())
