"""The gates of a nano model: is it a usable simulator of the tabletop?

Held-out episodes of the physics twin are imagined open loop from their first frame under the recorded actions, and
scored beside two references on the same episodes: 'repeat the first frame', and the true frames themselves (the floor
of the tracker and of the judge). All errors are in pixels of a 64 px frame. The episode is the independent unit of
every interval.

- moved-object position error: distance between the tracker's centroid in the imagined frame and the segmentation's
  centroid in the twin, over objects that the truth has moved by more than 3 px at that step;
- objects lost: objects visible in the truth that the tracker does not find, or finds with less than a quarter of the
  visible area;
- success agreement: the judge's verdict on imagined frames against the physics state, ever within the horizon.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim import video_metrics
from wfm_sim.assets.tabletop import PALETTE
from wfm_sim.envs.core import Judges
from wfm_sim.errors import UserError
from wfm_sim.evals.heldout import HeldOut
from wfm_sim.evals.object_tracking import appearances, locate_all
from wfm_sim.trust import doubts_of
from wfm_sim.world_model import WorldModel

MOVED_PX = 3.0
VISIBLE_AREA = 8.0  # px at 64 px: smaller visible parts are not asked for
KEPT_SHARE = 0.25  # of the truth's visible area


@dataclass(frozen=True)
class Verdict:
    """How probabilities become a success: above `threshold` in `frames` successive frames, as the environments do."""

    threshold: float = 0.5
    frames: int = 2

    def ever(self, probability: NDArray[np.float64]) -> bool:
        """Of one episode's probabilities [T]."""
        hits = 0
        for high in probability > self.threshold:
            hits = hits + 1 if high else 0
            if hits >= self.frames:
                return True
        return False


def imagine(model: WorldModel, episodes: Sequence[HeldOut]) -> NDArray[np.uint8]:
    """Open-loop rollouts of one batch: [B] episodes of T steps -> uint8 [B, T + 1, H, W, 3], the first frame given.

    Raises:
        UserError: the model is not driven by actions, or its frame size differs from the episodes'.
    """
    return imagine_with_doubts(model, episodes)[0]


def imagine_with_doubts(
    model: WorldModel, episodes: Sequence[HeldOut]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """As `imagine`; and the model's own doubts, float32 [B, T + 1, 2] in metres (`wfm_sim.trust.Trust.step`), 0 where
    it has none."""
    spec = model.spec
    size = episodes[0].frames.shape[1:3]
    if spec.condition != "action":
        raise UserError(f"the nano gates need an action-conditioned model; {spec.name!r} takes {spec.condition!r}.")
    if tuple(spec.frame_size) != tuple(size):
        raise UserError(f"{spec.name!r} imagines frames of {spec.frame_size}, the episodes have {tuple(size)}.")
    steps = episodes[0].actions.shape[0]
    actions = np.stack([e.actions for e in episodes]).astype(np.float32)
    n = spec.frames_per_step
    padding = -steps % n
    if padding:  # frames past the horizon are imagined and dropped
        actions = np.concatenate([actions, np.repeat(actions[:, -1:], padding, axis=1)], axis=1)
    first = np.stack([e.frames[:1] for e in episodes])
    state = model.start(first, seeds=[e.seed for e in episodes])
    frames, doubts = [first], [doubts_of(state, len(first))[:, None]]
    for t in range(0, actions.shape[1], n):
        state, new = model.step(state, actions[:, t : t + n])
        frames.append(new)
        doubts.append(np.repeat(doubts_of(state, len(first))[:, None], n, axis=1))
    return np.concatenate(frames, axis=1)[:, : steps + 1], np.concatenate(doubts, axis=1)[:, : steps + 1]


def score(episode: HeldOut, imagined: NDArray[np.uint8], judge: Judges | None, verdict: Verdict) -> dict[str, Any]:
    """One episode's record: what every method got at steps 1..T. Lists have T entries; None = nothing to score."""
    clips = {
        "model": imagined,
        "repeat": np.repeat(episode.frames[:1], len(episode.frames), 0),
        "truth": episode.frames,
    }
    record: dict[str, Any] = {
        "seed": episode.seed,
        "policy": episode.policy,
        "task": episode.task,
        "colours": list(episode.colours),
        "target_colour": episode.target_colour,
        "success": bool(episode.success.any()),
        "success_at_end": bool(episode.success[-1]),
    }
    scale = 64 / episode.frames.shape[1]
    visible, moved = visibility(episode, scale)
    record["visible"], record["moved"] = visible.tolist(), moved.tolist()
    paints = [None if c not in PALETTE else np.array(PALETTE[c]) * 255 for c in episode.colours]
    looks = appearances(
        episode.frames[0], [(float(x), float(y), float(area)) for x, y, area in episode.objects[0]], paints
    )
    for method, clip in clips.items():
        found = _track(clip, looks)[1:]  # [T, K, 3]
        error = np.hypot(*np.moveaxis(found[..., :2] - episode.objects[1:, :, :2], -1, 0)) * scale
        kept = found[..., 2] >= KEPT_SHARE * episode.objects[1:, :, 2]
        result: dict[str, Any] = {
            "error": _jsonable(np.where(visible & kept, error, np.nan)),
            "lost": (visible & ~kept).tolist(),
        }
        if method != "truth":
            result["psnr"] = _jsonable(video_metrics.psnr(episode.frames[1:], clip[1:]))
            result["ssim"] = _jsonable(video_metrics.ssim(episode.frames[1:], clip[1:]))
            result["moving_psnr"] = _jsonable(video_metrics.moving_psnr(episode.frames, clip)[1:])
        if judge is not None:
            rows = len(clip)
            first = np.repeat(episode.frames[:1], rows, axis=0)
            probability, _ = judge(clip, first, [episode.task] * rows, [episode.target_colour] * rows)
            result["probability"] = _jsonable(np.asarray(probability))
            result["judged"] = verdict.ever(np.asarray(probability))
        record[method] = result
    return record


def visibility(episode: HeldOut, scale: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """bool [T, K] twice: asked for (visible now and in the first frame), and moved by more than MOVED_PX."""
    area = episode.objects[..., 2] * scale**2
    visible = (area[1:] >= VISIBLE_AREA) & (area[:1] >= VISIBLE_AREA)
    way = np.hypot(*np.moveaxis(episode.objects[1:, :, :2] - episode.objects[:1, :, :2], -1, 0)) * scale
    return visible, visible & (way > MOVED_PX)


def evaluate(
    model: WorldModel,
    episodes: Iterable[HeldOut],
    judge: Judges | None,
    *,
    batch: int = 16,
    verdict: Verdict = Verdict(),
    records_file: Path | None = None,
    on_batch: Callable[[int], None] = lambda done: None,
) -> tuple[list[dict[str, Any]], list[tuple[HeldOut, NDArray[np.uint8]]]]:
    """Records of all episodes, and (episode, imagined frames) to make pictures of.

    Records are appended to `records_file` (JSON lines) as batches end, so that an interrupted run leaves what it has.
    """
    records: list[dict[str, Any]] = []
    pairs: list[tuple[HeldOut, NDArray[np.uint8]]] = []
    if records_file is not None:
        records_file.parent.mkdir(parents=True, exist_ok=True)
        records_file.write_text("")
    for group in _batches(episodes, batch):
        for episode, frames in zip(group, imagine(model, group), strict=True):
            records.append(score(episode, frames, judge, verdict))
            pairs.append((episode, frames))
        if records_file is not None:
            with records_file.open("a") as file:
                file.writelines(json.dumps(r) + "\n" for r in records[-len(group) :])
        on_batch(len(records))
    return records, pairs


def worst_first(records: Sequence[dict[str, Any]]) -> list[int]:
    """Indices of the records, worst first: by objects lost, then by the largest position error at the last step."""

    def badness(index: int) -> tuple[int, float]:
        result = records[index]["model"]
        errors = [e for e in result["error"][-1] if e is not None]
        return sum(result["lost"][-1]), max(errors, default=0.0)

    return sorted(range(len(records)), key=badness, reverse=True)


def _track(clip: NDArray[np.uint8], looks: Sequence[Any]) -> NDArray[np.float64]:
    """[T, H, W, 3] -> [T, K, 3]: x, y, area; NaN, NaN, 0 where not found."""
    table = np.full((len(clip), len(looks), 3), np.nan)
    table[..., 2] = 0
    still = bool((clip[1:] == clip[:1]).all())
    for t, frame in enumerate(clip[:1] if still else clip):
        for k, found in enumerate(locate_all(frame, looks)):
            if found is not None:
                table[t, k] = found.x, found.y, found.area
    return np.repeat(table[:1], len(clip), 0) if still else table


def _batches(episodes: Iterable[HeldOut], size: int) -> Iterator[list[HeldOut]]:
    stream = iter(episodes)
    while group := list(islice(stream, size)):
        yield group


def _jsonable(values: NDArray[Any]) -> Any:
    """Nested lists, rounded, with None for NaN."""
    rounded = np.round(np.asarray(values, dtype=np.float64), 4).astype(object)
    rounded[np.isnan(np.asarray(values, dtype=np.float64))] = None
    return rounded.tolist()
