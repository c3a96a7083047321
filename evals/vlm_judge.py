"""A vision-language model as the judge of success, behind any OpenAI-compatible endpoint.

    judge = parse_vlm_judge("openai:qwen2.5-vl-7b@http://127.0.0.1:8000/v1")
    probability, progress = judge(frames, first_frames, ["push"] * B, ["red"] * B)      # as wfm_sim.judge.Judge

It is asked one question per frame: the instruction, the episode's first frame and this one, success yes or no. Answers
are kept on the disk under what was asked, so nothing is asked twice. Of itself it is believed in nothing: until
`wfm-sim eval judge --write` has counted its errors, success corrected for them is 'unscored'.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from wfm_sim.assets.tabletop import INSTRUCTIONS
from wfm_sim.data.files import read_json, write_json
from wfm_sim.errors import UserError, unknown
from wfm_sim.evals.vlm_client import ChatClient

PREFIX = "openai:"
DEFAULT_CACHE = Path("runs/cache/vlm-judge")
SIZE = 384  # pixels: frames are enlarged to it, since these models see little in 64
SYSTEM = (
    "You check the work of a robot arm. You get its task and two camera images: the scene before the robot began, and "
    "the scene now. Decide from the second image alone whether the task is done at this moment; nearly done is not "
    "done, and an image too blurred to tell is not done. Answer with one word, yes or no."
)
# What counts as done, as the twin decides it (envs/twin.py).
DONE = {
    "push": "It is done when the {colour} block's centre lies well inside the pink zone with the white border.",
    "pick": "It is done when the gripper holds the {colour} block clearly above the table, higher than one block.",
    "place": "It is done when the {colour} block rests on the round white plate and the gripper has let go of it.",
}


class VLMJudge:
    """See the module. Progress, which nobody asks such a model for, is the probability of success.

    Attributes:
        name: 'openai:MODEL@URL'.
        fingerprint: 'sha256:...' of the model's name and of all that is said to it, but not of the endpoint.
        quality: Holds `confusion` once it was measured, see `wfm_sim.judge.Judge`.
        requests: How many were made by this object.
    """

    def __init__(self, client: ChatClient, *, cache: Path | str = DEFAULT_CACHE, workers: int = 8) -> None:
        """Set up; nothing is asked yet.

        Args:
            client: The endpoint.
            cache: Folder of answers; a subfolder per fingerprint is made in it at the first answer.
            workers: Requests at once.
        """
        self.client, self.workers, self.requests = client, workers, 0
        self.name = f"{PREFIX}{client.model}@{client.url}"
        said = json.dumps([client.model, SYSTEM, DONE, INSTRUCTIONS, SIZE], sort_keys=True)
        self.fingerprint = f"sha256:{hashlib.sha256(said.encode()).hexdigest()}"
        self.folder = Path(cache) / self.fingerprint.removeprefix("sha256:")[:12]
        self._answers = _read_answers(self.folder / "answers.jsonl")
        self._lock = threading.Lock()
        kept = self.folder / "quality.json"
        self.quality: dict[str, Any] = read_json(kept) if kept.exists() else {}

    def __call__(
        self,
        frames: NDArray[np.uint8],
        first_frames: NDArray[np.uint8],
        tasks: Sequence[str],
        colours: Sequence[str],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Judge B frames: uint8 [B, H, W, 3] twice, B tasks, B colour names -> float64 [B], probability, twice.

        Raises:
            UserError: an unknown task, no connection, or an answer that is neither yes nor no.
        """
        asked: dict[str, tuple[str, bytes, bytes]] = {}
        keys = []
        for frame, first, task, colour in zip(frames, first_frames, tasks, colours, strict=True):
            text = question(task, colour)
            key = hashlib.sha256(json.dumps([text, frame.shape]).encode() + first.tobytes() + frame.tobytes())
            keys.append(key.hexdigest())
            if keys[-1] not in self._answers and keys[-1] not in asked:
                asked[keys[-1]] = (text, png(first), png(frame))
        if asked:
            pool = ThreadPoolExecutor(self.workers)
            try:
                list(pool.map(self._ask, asked, asked.values()))
            finally:
                pool.shutdown(cancel_futures=True)
        found = np.array([self._answers[key] for key in keys])
        return found, found.copy()

    def announce(self, frames: int) -> str:
        """What asking about so many frames may cost."""
        return (
            f"{self.name}: up to {frames} requests, each with two images of {SIZE} x {SIZE} pixels; "
            f"{len(self._answers)} answers are kept in {self.folder} and are not asked for again"
        )

    def write_quality(self, found: dict[str, Any]) -> None:
        """Keep what was measured, beside the answers."""
        self.quality = {**self.quality, **found}
        write_json(self.folder / "quality.json", self.quality)

    def __getstate__(self) -> dict[str, Any]:  # a lock cannot be sent to another process
        return {k: v for k, v in vars(self).items() if k != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def _ask(self, key: str, asked: tuple[str, bytes, bytes]) -> None:
        text, first, frame = asked
        images = [("The scene before the robot began:", first), ("The scene now:", frame)]
        probability = self.client.yes_or_no(SYSTEM, text, images)
        line = json.dumps({"key": key, "probability": probability}) + "\n"
        with self._lock:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "answers.jsonl").open("a", encoding="utf-8") as file:
                file.write(line)
            self._answers[key] = probability
            self.requests += 1


def parse_vlm_judge(name: str, *, cache: Path | str = DEFAULT_CACHE) -> VLMJudge:
    """The judge of 'openai:MODEL@http://HOST:PORT/v1'. Raises UserError for anything else."""
    found = re.fullmatch(r"openai:(?P<model>.+?)@(?P<url>https?://.+)", name)
    if found is None:
        raise UserError(f"{name!r} names no remote judge; write openai:MODEL@http://HOST:PORT/v1")
    return VLMJudge(ChatClient(found["url"], found["model"]), cache=cache)


def question(task: str, colour: str) -> str:
    """What is asked about a frame of a task. Raises UserError for an unknown one."""
    if task not in DONE:
        raise unknown("task", task, DONE)
    return f"The task: {INSTRUCTIONS[task].format(colour=colour)}. {DONE[task].format(colour=colour)}"


def png(frame: NDArray[np.uint8]) -> bytes:
    """A frame, uint8 [H, W, 3], enlarged to SIZE on its longer side, as PNG."""
    scale = SIZE / max(frame.shape[:2])
    large = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    encoded, data = cv2.imencode(".png", cv2.cvtColor(large, cv2.COLOR_RGB2BGR))
    assert encoded
    return data.tobytes()


def _read_answers(path: Path) -> dict[str, float]:
    """Key -> probability. A line that a killed process left half-written is passed over."""
    answers: dict[str, float] = {}
    if not path.exists():
        return answers
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
            answers[str(record["key"])] = float(record["probability"])
        except (ValueError, KeyError, TypeError):
            continue
    return answers
