"""Imagined frames to be checked by eye: contact sheets with what judge and tracker say of each frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wfm_sim.data.files import atomic_path
from wfm_sim.evals.judge_eval_summary import Record, verdicts

FRAME, FIRST, SIDE, LINE, GAP = 256, 112, 134, 20, 8  # pixels: imagined, first, column beside it, text, space between
COLUMNS, ROWS = 4, 5
INK, YES, NO, ODD = (30, 30, 30), (16, 110, 50), (170, 30, 30), (240, 150, 0)


@dataclass(frozen=True)
class Sample:
    """One imagined frame.

    Attributes:
        episode: Index into the records.
        step: Of the frame, at least 1.
        judged, probability: The judge's answer.
        tracked: The tracker's; None where it cannot say.
        truth: Whether the twin's state is a success at this step.
    """

    episode: int
    step: int
    judged: bool
    probability: float
    tracked: bool | None
    truth: bool

    @property
    def disagree(self) -> bool:
        """Whether judge and tracker read this frame differently."""
        return self.tracked is not None and self.tracked != self.judged


def choose(records: Sequence[Record], count: int, seed: int = 0) -> list[Sample]:
    """`count` frames drawn at random, half of them judged a success as far as there are so many.

    A verdict's frames come from as many episodes as there are: a second frame of an episode only when each has given
    one. Sorted: disagreements of judge and tracker first, then by episode.
    """
    rng = np.random.default_rng(seed)
    drawn: dict[bool, list[Sample]] = {}
    for verdict in (True, False):
        queues = []
        for episode in rng.permutation(len(records)).tolist():
            answer = verdicts(records[episode], "probability")
            assert answer is not None
            steps = [t for t in range(1, len(answer)) if answer[t] == verdict]
            queues.append((episode, rng.permutation(steps).astype(int).tolist()))
        most = max((len(steps) for _, steps in queues), default=0)
        order = [(episode, steps[turn]) for turn in range(most) for episode, steps in queues if turn < len(steps)]
        drawn[verdict] = [_sample(records, episode, step) for episode, step in order]
    yes = min(len(drawn[True]), max(count // 2, count - len(drawn[False])))
    chosen = drawn[True][:yes] + drawn[False][: count - yes]
    return sorted(chosen, key=lambda s: (not s.disagree, s.episode, s.step))


def _sample(records: Sequence[Record], episode: int, step: int) -> Sample:
    answer, tracker = verdicts(records[episode], "probability"), verdicts(records[episode], "tracker")
    assert answer is not None
    return Sample(
        episode=episode,
        step=step,
        judged=bool(answer[step]),
        probability=float(records[episode]["probability"][step]),
        tracked=None if tracker is None else bool(tracker[step]),
        truth=bool(records[episode]["truth"][step]),
    )


def write_sheets(
    folder: Path, samples: Sequence[Sample], records: Sequence[Record], clips: Sequence[NDArray[np.uint8]]
) -> list[Path]:
    """Pages sheet_01.png, sheet_02.png, ... of 20 frames each, and their paths. `clips` are the records' frames."""
    paths = []
    for page, begin in enumerate(range(0, len(samples), COLUMNS * ROWS), 1):
        part = samples[begin : begin + COLUMNS * ROWS]
        cells = [_cell(begin + i + 1, s, records[s.episode], clips[s.episode]) for i, s in enumerate(part)]
        path = folder / f"sheet_{page:02d}.png"
        encoded, data = cv2.imencode(".png", cv2.cvtColor(_grid(cells), cv2.COLOR_RGB2BGR))
        assert encoded
        with atomic_path(path) as partial:
            partial.write_bytes(data.tobytes())
        paths.append(path)
    return paths


def _grid(cells: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    height, width = cells[0].shape[:2]
    rows = -(-len(cells) // COLUMNS)
    page = np.full((GAP + rows * (height + GAP), GAP + COLUMNS * (width + GAP), 3), 255, np.uint8)
    for i, cell in enumerate(cells):
        y, x = GAP + i // COLUMNS * (height + GAP), GAP + i % COLUMNS * (width + GAP)
        page[y : y + height, x : x + width] = cell
    return page


def _cell(number: int, sample: Sample, record: Record, clip: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The imagined frame, large; beside it the first frame, small, and the verdicts; below it the instruction."""
    cell = np.full((FRAME + 2 * LINE, FRAME + SIDE, 3), 255, np.uint8)
    cell[:FRAME, :FRAME] = cv2.resize(clip[sample.step], (FRAME, FRAME), interpolation=cv2.INTER_CUBIC)
    left = FRAME + (SIDE - FIRST) // 2
    cell[:FIRST, left : left + FIRST] = cv2.resize(clip[0], (FIRST, FIRST), interpolation=cv2.INTER_CUBIC)
    if sample.disagree:
        cv2.rectangle(cell, (1, 1), (FRAME - 2, FRAME - 2), ODD, 3)
    lines: list[tuple[str, tuple[int, int, int]]] = [
        ("the first frame", INK),
        (f"no. {number}, step {sample.step}", INK),
        (f"judge: {_word(sample.judged)} {sample.probability:.2f}", _colour(sample.judged)),
        (f"tracker: {_word(sample.tracked)}", _colour(sample.tracked)),
        (f"twin: {_word(sample.truth)}", _colour(sample.truth)),
    ]
    for i, (text, colour) in enumerate(lines):
        _write(cell, text, FRAME + 6, FIRST + LINE * (i + 1) - 4 + (6 if i else 0), colour)
    _write(cell, record["instruction"], 2, FRAME + LINE - 5, INK)
    _write(cell, f"scene {record['seed']}, {record['policy']}", 2, FRAME + 2 * LINE - 7, (110, 110, 110))
    return cell


def _word(verdict: bool | None) -> str:
    return "cannot say" if verdict is None else "success" if verdict else "no"


def _colour(verdict: bool | None) -> tuple[int, int, int]:
    return INK if verdict is None else YES if verdict else NO


def _write(image: NDArray[Any], text: str, x: int, y: int, colour: tuple[int, int, int]) -> None:
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)
