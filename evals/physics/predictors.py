"""What predicts: anything that maps context frames to future frames, and the two baselines without weights.

    class MyModel:                                  # `wfm-sim physics score my_package.my_module:MyModel --data DIR`
        name = "my-model"
        size = (64, 64)                             # it wants frames of this (height, width); None takes any

        def predict(self, context, frames, seed):   # uint8 [B, T, H, W, 3] -> uint8 [B, frames, H, W, 3]
            ...

A plain function of the same three arguments will do too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from wfm_sim.actions import ACTION_DIM
from wfm_sim.errors import UserError

Frames = NDArray[np.uint8]


@runtime_checkable
class Predictor(Protocol):
    """A video model.

    Attributes:
        name: For tables.
        size: (height, width) in pixels of the frames that it takes and gives; None for any.
        deterministic: Optional; True says that the seed changes nothing, and one seed is scored instead of several.
    """

    name: str
    size: tuple[int, int] | None

    def predict(self, context: Frames, frames: int, seed: int) -> Frames:
        """The frames after the context.

        Args:
            context: uint8 [B, T, H, W, 3], T of 1 or 9, say.
            frames: How many to predict.
            seed: Of everything random. The rows of a batch shall differ in their randomness.

        Returns:
            uint8 [B, frames, H, W, 3], without the context.
        """


class RepeatLast:
    """The last frame, again and again."""

    name: str = "repeat-last"
    size: tuple[int, int] | None = None
    deterministic = True

    def predict(self, context: Frames, frames: int, seed: int) -> Frames:
        return np.repeat(context[:, -1:], frames, axis=1)


class FlowExtrapolation:
    """Optical flow between the last two frames, carried on: every pixel that moves keeps its velocity.

    Moving pixels of the last frame are put where constant velocity takes them, the fastest on top; what they leave
    behind is filled in from around. From a single frame there is no flow, and this repeats it.
    """

    name: str = "flow"
    size: tuple[int, int] | None = None
    deterministic = True
    moving = 0.5  # pixels per frame from which on a pixel moves
    changed = 15  # levels of 255 by which a pixel has changed since the first context frame

    def predict(self, context: Frames, frames: int, seed: int) -> Frames:
        if context.shape[1] < 2:
            return RepeatLast().predict(context, frames, seed)
        return np.stack([self._one(clip, frames) for clip in context])

    def _one(self, clip: Frames, frames: int) -> Frames:
        last, before = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (clip[-1], clip[-2]))
        # From the last frame back to the one before: known at the pixels of the last frame. [H, W, 2], x then y.
        flow = -cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(last, before, None)  # type: ignore[call-overload]
        speed = np.hypot(flow[..., 0], flow[..., 1])
        # Where nothing has changed, flow only leaks in from beside: evenly coloured walls would come along.
        change = np.abs(clip[-1].astype(np.int16) - clip[0]).max(-1) > self.changed
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
        near = cv2.morphologyEx(change.astype(np.uint8), cv2.MORPH_CLOSE, kernel) > 0
        moves = (speed > self.moving) & near
        rows, columns = np.nonzero(moves)
        order = np.argsort(speed[rows, columns], kind="stable")  # of two pixels on one place the later written stays
        rows, columns = rows[order], columns[order]
        vx, vy = flow[rows, columns].T
        behind = clip[-1]
        if len(rows):
            behind = cv2.inpaint(
                clip[-1], cv2.dilate(moves.astype(np.uint8), np.ones((3, 3), np.uint8)), 3, cv2.INPAINT_TELEA
            )
        out = np.repeat(behind[None], frames, axis=0)
        for k in range(frames):
            x, y = columns + (k + 1) * vx, rows + (k + 1) * vy
            for to_x, to_y in ((np.floor, np.floor), (np.ceil, np.floor), (np.floor, np.ceil), (np.ceil, np.ceil)):
                u, v = to_x(x).astype(int), to_y(y).astype(int)
                inside = (u >= 0) & (v >= 0) & (u < last.shape[1]) & (v < last.shape[0])
                out[k, v[inside], u[inside]] = clip[-1][rows[inside], columns[inside]]
        return out


class FromFunction:
    """A function (context, frames, seed) as a Predictor."""

    size: tuple[int, int] | None = None

    def __init__(self, function: Callable[[Frames, int, int], Frames], name: str) -> None:
        self.function, self.name = function, name

    def predict(self, context: Frames, frames: int, seed: int) -> Frames:
        return self.function(context, frames, seed)


class VideoWorld:
    """A Video2World model of wfm_sim.models.video_world as a Predictor."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.name: str = model.cfg.name
        height, width = model.cfg.frame_size
        self.size: tuple[int, int] | None = (int(height), int(width))

    def predict(self, context: Frames, frames: int, seed: int) -> Frames:
        given, longest = context.shape[1], self.model.cfg.frames
        if given + frames > longest:
            raise UserError(f"{self.name} makes clips of {longest} frames, {given + frames} were asked for")
        clips = self.model.predict(context, seeds=[seed + row for row in range(len(context))])
        return np.asarray(clips[:, given : given + frames])


class SteppedWorld:
    """A simulator (wfm_sim.world_model) in which nobody acts: frame by frame, as long as is asked for."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.name: str = model.spec.name
        self.size: tuple[int, int] | None = tuple(model.spec.frame_size)
        if model.spec.frames_per_step != 1 or model.spec.condition != "action":
            raise UserError(f"{self.name} is no simulator of one frame per action, which is what can be scored here")

    def predict(self, context: Frames, frames: int, seed: int) -> Frames:
        batch = len(context)
        state = self.model.start(context, seeds=[seed + row for row in range(batch)])
        rest, made = np.zeros((batch, 1, ACTION_DIM), np.float32), []
        for _ in range(frames):
            state, new = self.model.step(state, rest)
            made.append(new[:, 0])
        return np.stack(made, axis=1)


def predict(predictor: Predictor, context: Frames, frames: int, seed: int) -> Frames:
    """`predictor.predict` on frames of any size, checked.

    The context is scaled to the predictor's size (area average) and what it gives back to the context's (bicubic).

    Args:
        predictor: Whose.
        context: uint8 [B, T, H, W, 3].
        frames, seed: As `Predictor.predict`.

    Returns:
        uint8 [B, frames, H, W, 3].

    Raises:
        UserError: it failed, or gave something else.
    """
    batch, size = len(context), context.shape[2:4]
    inner = size if predictor.size is None else tuple(predictor.size)
    try:
        future = np.asarray(predictor.predict(resize(context, inner), frames, seed))
    except UserError:
        raise
    except Exception as error:  # the user's code: whatever it raises is told in one sentence
        raise UserError(f"{predictor.name} failed: {type(error).__name__}: {error}") from error
    expected = (batch, frames, *inner, 3)
    if future.dtype != np.uint8 or future.shape != expected:
        raise UserError(
            f"{predictor.name} gave {future.dtype} {list(future.shape)}, expected uint8 {list(expected)}: the frames "
            "after the context, without it"
        )
    return resize(future, size)


def resize(clips: Frames, size: tuple[int, ...]) -> Frames:
    """uint8 [B, T, H, W, 3] at another (height, width)."""
    if clips.shape[2:4] == tuple(size):
        return clips
    how = cv2.INTER_AREA if size[0] < clips.shape[2] else cv2.INTER_CUBIC
    flat = [cv2.resize(frame, (size[1], size[0]), interpolation=how) for frame in clips.reshape(-1, *clips.shape[2:])]
    return np.stack(flat).reshape(*clips.shape[:2], *size, 3)
