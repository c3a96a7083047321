"""Video files in and out, by PyAV; the only module that touches it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wfm_sim.data.files import atomic_path
from wfm_sim.errors import UserError

# Up to this size frames keep full colour resolution: halving it would wash out objects of a few pixels.
_FULL_COLOUR_PIXELS = 256 * 256


def read_video(path: str | Path, limit: int | None = None) -> NDArray[np.uint8]:
    """All frames of a video, or the first `limit`: uint8 [T, H, W, 3], RGB, T >= 1.

    Raises:
        UserError: no such file, not a video, or broken in the middle.
    """
    import av

    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such video")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise UserError(f"{path}: has no video stream")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            promised = stream.frames if limit is None else min(stream.frames, limit)
            frames = [frame.to_ndarray(format="rgb24") for frame in islice(container.decode(stream), limit)]
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: not a readable video ({reason})") from None
    if not frames or len(frames) < promised:
        raise UserError(f"{path}: broken video, {len(frames)} of {promised} frames can be read")
    return np.stack(frames)


def read_some_frames(path: str | Path, choose: Callable[[int], NDArray[np.int64]]) -> tuple[NDArray[np.uint8], float]:
    """Some frames of a video, without holding the others, and its frames per second.

    Args:
        path: The video.
        choose: From the number of its frames to the rising positions that are wanted.

    Returns:
        uint8 [T, H, W, 3], RGB, and frames per second.

    Raises:
        UserError: no such file, not a video, or broken in the middle.
    """
    import av

    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such video")
    try:
        count, rate = _count_frames(path)
        wanted = {int(i) for i in choose(count)}
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            decoded = islice(container.decode(stream), max(wanted, default=-1) + 1)
            frames = [frame.to_ndarray(format="rgb24") for i, frame in enumerate(decoded) if i in wanted]
    except (av.error.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: not a readable video ({reason})") from None
    if not frames or len(frames) < len(wanted):
        raise UserError(f"{path}: broken video, {len(frames)} of {len(wanted)} frames can be read")
    return np.stack(frames), rate


def _count_frames(path: Path) -> tuple[int, float]:
    """How many frames a video has, by decoding it where its header does not say, and frames per second."""
    import av

    with av.open(str(path)) as container:
        if not container.streams.video:
            raise UserError(f"{path}: has no video stream")
        stream = container.streams.video[0]
        rate = float(stream.average_rate or 10)
        return stream.frames or sum(1 for _ in container.decode(stream)), rate


def write_video(
    path: str | Path, frames: NDArray[np.uint8], fps: float, crf: int = 10, full_colour: bool | None = None
) -> None:
    """Write an h264 mp4 that PyAV, OpenCV and browsers of today read; the file appears only when it is complete.

    Args:
        path: Ends in .mp4.
        frames: uint8 [T, H, W, 3], RGB, T >= 1.
        fps, crf, full_colour: As `video_writer`.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise UserError(
            f"{path}: cannot write {frames.dtype} {list(frames.shape)} as a video, expected uint8 [T, H, W, 3]"
        )
    height, width = frames.shape[1:3]
    with video_writer(path, (height, width), fps, crf, full_colour) as add:
        for image in frames:
            add(image)


@contextmanager
def video_writer(
    path: str | Path, size: tuple[int, int], fps: float, crf: int = 10, full_colour: bool | None = None
) -> Iterator[Callable[[NDArray[np.uint8]], None]]:
    """`write_video` frame by frame: call what it gives with uint8 [H, W, 3]. The file appears when the block ends well.

    Args:
        path: Ends in .mp4.
        size: (height, width) in pixels.
        fps: Frames per second.
        crf: Quality, 0 (lossless) .. 51; 10 is visually lossless.
        full_colour: Keep the colours' full resolution (yuv444p), or halve it (yuv420p), which every player shows.
            None keeps it for small frames (up to 256 x 256, or an odd size).
    """
    import av

    height, width = size
    if full_colour is None:
        full_colour = height * width <= _FULL_COLOUR_PIXELS or bool(height % 2 or width % 2)
    with atomic_path(path) as temporary, av.open(str(temporary), mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv444p" if full_colour else "yuv420p"
        # The same frames must give the same bytes on every run. So: one thread, and no B-frames, because x264's search
        # for them reads memory that it has not set. (Live viewers want none either.)
        stream.codec_context.thread_count = 1
        stream.options = {"crf": str(crf), "preset": "veryfast", "threads": "1", "bf": "0"}
        yield lambda image: container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
