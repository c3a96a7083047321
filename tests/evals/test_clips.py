import io
from pathlib import Path

import cv2
import numpy as np

from wfm_sim.evals import clips


def frames(count: int, level: int = 200) -> np.ndarray:
    return np.full((count, 16, 16, 3), level, np.uint8)


def test_side_by_side_holds_the_last_frame_of_the_shorter_clip() -> None:
    left = frames(3)
    left[2] = 7
    both = clips.side_by_side(left, frames(5))
    assert both.shape == (5, 16, 32 + clips.GAP, 3)
    assert (both[4, :, :16] == 7).all() and (both[4, :, -16:] == 200).all()


def test_strip_shows_first_and_last_frame(tmp_path: Path) -> None:
    clip = frames(25)
    clip[0], clip[-1] = 10, 90
    path = clips.write_strip(tmp_path / "a" / "strip.png", [("true", clip), ("", clip)], columns=5, height=32)
    sheet = cv2.imread(str(path))
    assert sheet.shape == (20 + 2 * 36, 5 * 36, 3)
    assert (sheet[20:52, :32] == 10).all() and (sheet[20:52, 4 * 36 : 4 * 36 + 32] == 90).all()


def test_mp4_decodes_to_what_went_in() -> None:
    import av

    clip = frames(6)
    clip[3:] = 40
    with av.open(io.BytesIO(clips.mp4_bytes(clip, 5, height=256))) as container:
        back = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(back) == 6 and back[0].shape == (272, 272, 3)
    assert abs(int(back[0].mean()) - 200) < 6 and abs(int(back[5].mean()) - 40) < 6
