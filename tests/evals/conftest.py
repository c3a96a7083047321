"""Stand-ins for the parts that evals judge: a two-block scene, world models that know or repeat, and a colour judge."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from wfm_sim.actions import ACTION_HIGH, ACTION_LOW, UNITS
from wfm_sim.evals.heldout import HeldOut
from wfm_sim.world_model import WorldModelSpec

SIZE, STEPS, SIDE = 32, 8, 6
COLOURS = {"red": (200, 40, 35), "blue": (40, 70, 190)}
WOOD = (170, 125, 80)


def draw(red: tuple[float, float], blue: tuple[float, float]) -> np.ndarray:
    """uint8 [SIZE, SIZE, 3]; whole-pixel blocks of SIDE x SIDE, centred where asked (rounded)."""
    frame = np.empty((SIZE, SIZE, 3), np.uint8)
    frame[:] = WOOD
    frame[::4] -= 6
    for centre, colour in ((red, COLOURS["red"]), (blue, COLOURS["blue"])):
        x, y = (round(v - SIDE / 2 + 0.5) for v in centre)
        frame[y : y + SIDE, x : x + SIDE] = colour
    return frame


def episode(seed: int = 0, succeed: bool = True) -> HeldOut:
    """The red block slides right by dx metres x 100 px; success is red beyond x = 18."""
    speed = 1.5 if succeed else 0.5
    y = 6.5 + seed % 12
    xs = 6.5 + speed * np.arange(STEPS + 1).round()
    frames = np.stack([draw((x, y), (25.5, 26.5)) for x in xs])
    objects = np.zeros((STEPS + 1, 2, 3), np.float32)
    objects[:, 0] = np.stack([np.round(xs - SIDE / 2 + 0.5) + SIDE / 2 - 0.5, np.full(STEPS + 1, y), 36 + 0 * xs], 1)
    objects[:, 1] = 25.5, 26.5, 36
    actions = np.zeros((STEPS, 7), np.float32)
    actions[:, 0] = speed / 100
    return HeldOut(
        seed=seed,
        policy="expert" if succeed else "noisy",
        task="push",
        target_colour="red",
        instruction="push the red block to the right",
        colours=("red", "blue"),
        frames=frames,
        actions=actions,
        poses=np.zeros((STEPS + 1, 7), np.float32),
        objects=objects,
        success=xs > 16,
        progress=np.clip(xs / 18, 0, 1).astype(np.float32),
    )


@dataclass(frozen=True)
class FakeState:
    first: np.ndarray  # uint8 [B, H, W, 3]
    shift: np.ndarray  # [B] pixels the red block has moved
    steps: int = 0

    def __len__(self) -> int:
        return len(self.first)

    def __getitem__(self, rows: Any) -> "FakeState":
        return replace(self, first=self.first[rows], shift=self.shift[rows])

    def clone(self) -> "FakeState":
        return replace(self, first=self.first.copy(), shift=self.shift.copy())

    @classmethod
    def cat(cls, states: Sequence["FakeState"]) -> "FakeState":
        return cls(np.concatenate([s.first for s in states]), np.concatenate([s.shift for s in states]))


class FakeModel:
    """Moves the red block by `gain` times what the action says; gain 1 is a perfect simulator, 0 repeats the frame."""

    def __init__(self, gain: float = 1.0, frames_per_step: int = 1, erase: bool = False) -> None:
        self.gain, self.erase = gain, erase
        self.spec = WorldModelSpec(
            name="fake",
            frame_size=(SIZE, SIZE),
            fps=5.0,
            condition="action",
            condition_low=tuple(map(float, ACTION_LOW)),
            condition_high=tuple(map(float, ACTION_HIGH)),
            condition_units=UNITS,
            frames_per_step=frames_per_step,
            context_frames=1,
            latent_shape=(3, SIZE, SIZE),
        )

    def start(self, frames: np.ndarray, *, seeds: Sequence[int] | None = None) -> FakeState:
        return FakeState(frames[:, -1], np.zeros(len(frames)))

    def step(self, state: FakeState, condition: np.ndarray) -> tuple[FakeState, np.ndarray]:
        frames, shift = [], state.shift
        for t in range(condition.shape[1]):
            shift = shift + self.gain * 100 * condition[:, t, 0]
            frames.append(np.stack([self._frame(f, s) for f, s in zip(state.first, shift, strict=True)]))
        return replace(state, shift=shift, steps=state.steps + condition.shape[1]), np.stack(frames, axis=1)

    def _frame(self, first: np.ndarray, shift: float) -> np.ndarray:
        if not (shift or self.erase):
            return first
        channels = first.astype(int)  # a frame may come from a compressed video
        red = (channels[..., 0] - channels[..., 1] > 80) & (channels[..., 0] - channels[..., 2] > 80)
        row, column = np.argwhere(red)[0]
        x = round(float(shift) + float(column))
        frame = draw((100.0, 100.0), (25.5, 26.5))
        if not self.erase:
            frame[row : row + SIDE, x : x + SIDE] = COLOURS["red"]
        return frame


def colour_judge(
    frames: np.ndarray, first_frames: np.ndarray, tasks: Sequence[str], colours: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Success when the red block's left edge is beyond pixel 13."""
    assert frames.shape == first_frames.shape and len(frames) == len(tasks) == len(colours)
    left = np.array([np.argwhere((f == COLOURS["red"]).all(-1))[:, 1].min(initial=SIZE) % SIZE for f in frames])
    return (left > 13).astype(float), left / SIZE


@pytest.fixture
def make_episode() -> Callable[..., HeldOut]:
    return episode


@pytest.fixture
def make_model() -> Callable[..., FakeModel]:
    return FakeModel


@pytest.fixture
def judge() -> Callable[..., Any]:
    return colour_judge


@dataclass(frozen=True)
class WayState:
    frames: np.ndarray
    way: np.ndarray  # metres moved so far

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, rows: Any) -> "WayState":
        return WayState(self.frames[rows], self.way[rows])

    def clone(self) -> "WayState":
        return WayState(self.frames.copy(), self.way.copy())

    @classmethod
    def cat(cls, states: Any) -> "WayState":
        return cls(np.concatenate([s.frames for s in states]), np.concatenate([s.way for s in states]))


class WayModel:
    """Repeats the first frame, but writes into its first pixel how many centimetres the gripper has been moved."""

    spec = WorldModelSpec(
        name="way",
        frame_size=(64, 64),
        fps=5.0,
        condition="action",
        condition_low=tuple(map(float, ACTION_LOW)),
        condition_high=tuple(map(float, ACTION_HIGH)),
        condition_units=UNITS,
        frames_per_step=1,
        context_frames=1,
        latent_shape=(3, 64, 64),
    )

    def start(self, frames: np.ndarray, *, seeds: Any = None) -> WayState:
        return WayState(frames[:, -1], np.zeros(len(frames)))

    def step(self, state: WayState, condition: np.ndarray) -> tuple[WayState, np.ndarray]:
        way = state.way + np.linalg.norm(condition[:, 0, :3], axis=1)
        frames = state.frames.copy()
        frames[:, 0, 0] = np.round(way * 100)[:, None]
        return replace(state, way=way), frames[:, None]


def _way_judge(frames: Any, first_frames: Any, tasks: Any, colours: Any) -> tuple[np.ndarray, np.ndarray]:
    """A success after 10 cm: moving policies succeed, one that stands still does not."""
    way = np.where((frames == first_frames).all((1, 2, 3)), 0, frames[:, 0, 0, 0])
    return (way >= 10).astype(float), np.minimum(way / 10.0, 1)


@pytest.fixture
def way_model() -> WayModel:
    return WayModel()


@pytest.fixture
def way_judge() -> Callable[..., Any]:
    return _way_judge
