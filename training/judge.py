"""Training the pixel judge (wfm_sim/judge.py) on episodes of the physics twin.

    path = train_judge("datasets/tabletop", "runs/judge")        # resumes where it was stopped

Beside the recorded answer (was *this* task on *this* block a success?), a frame answers other questions whose truth
follows from the block positions: is a distractor in the zone, is any block lifted? They teach the judge to look
at the colour and the task, not at what the robot seems to be doing.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from wfm_sim.data import open_dataset
from wfm_sim.data.bulk import EpisodeArrays, load_frames
from wfm_sim.errors import UserError
from wfm_sim.judge import Judge, JudgeConfig, JudgeNetwork, load_judge, save_judge, to_network
from wfm_sim.training.judge_questions import Questions, added_questions, recorded_questions, task_goals
from wfm_sim.training.loop import LoopConfig, launch

NEARLY = 0.5  # failures with this much progress are hard


@dataclass(frozen=True)
class JudgeRecipe:
    """What decides the result, with the data.

    Attributes:
        steps, batch, lr, seed: As usual.
        shares: Shares of a batch: recorded successes, hard recorded failures, other recorded failures, and the same of
            the questions that were added.
        shift: Pixels by which an example (this frame and the first alike) may be shifted: the camera is not fixed.
        noise, blur, shrink, gain: Augmentation against what imagined frames look like: standard deviation of the noise
            (0..255), probabilities of a 3x3 blur and of a detour through 40 pixels, and range of the contrast.
        progress_weight: Weight of the progress loss.
    """

    steps: int = 5000
    batch: int = 64
    lr: float = 1.5e-3
    seed: int = 0
    shares: tuple[float, ...] = (0.26, 0.16, 0.14, 0.16, 0.18, 0.10)
    shift: int = 2
    noise: float = 8.0
    blur: float = 0.3
    shrink: float = 0.15
    gain: float = 0.08
    progress_weight: float = 0.5


class JudgeTask:
    """What training/loop.py trains: batches, loss, validation, export."""

    def __init__(
        self,
        train: EpisodeArrays,
        val: EpisodeArrays,
        recipe: JudgeRecipe,
        goals: Sequence[Mapping[str, NDArray[Any]]] | None = None,
        init: Judge | None = None,
    ) -> None:
        colours = sorted({colour for extras in train.extras for colour in extras["object_colours"]})
        tasks = sorted({extras["task"] for extras in train.extras})
        height, width = train.frames.shape[2:4]
        self.config = init.config if init is not None else JudgeConfig(tuple(tasks), tuple(colours), (height, width))
        self.model: nn.Module = JudgeNetwork(self.config) if init is None else copy.deepcopy(init.network).train()
        self.recipe, self.train, self.val = recipe, train, val
        recorded, added = recorded_questions(train, self.config), added_questions(train, self.config, goals)
        # A failure is hard where it is nearly a success, or where the frame shows some other success.
        shown = np.zeros(train.frames.shape[:2], dtype=bool)
        for questions in (recorded, added):
            shown[questions.episode[questions.success], questions.time[questions.success]] = True
        hard = (recorded.progress > NEARLY) | shown[recorded.episode, recorded.time]
        confusing = shown[added.episode, added.time]
        pools = [
            recorded.where(recorded.success),
            recorded.where(~recorded.success & hard),
            recorded.where(~recorded.success & ~hard),
            added.where(added.success),
            added.where(~added.success & confusing),
            added.where(~added.success & ~confusing),
        ]
        if not len(pools[0]):
            raise UserError("no frame of the training episodes is a success: nothing to learn from")
        self.pools = [(pool, share) for pool, share in zip(pools, recipe.shares, strict=True) if len(pool)]
        # Batches hold more successes than episodes do; the exported judge is set back to the episodes' share.
        drawn = sum(share for pool, share in self.pools if pool.success.all()) / sum(share for _, share in self.pools)
        self.shift = log_odds(float(recorded.success.mean())) - log_odds(drawn)
        self.quality: dict[str, Any] = {}

    def loss(self, step: int, generator: torch.Generator, rank: int) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of success, and of progress where it was recorded."""
        rng = np.random.default_rng([self.recipe.seed, step, rank])
        q = self._draw(rng)
        episode, time = q.episode[:, None, None], q.time[:, None, None]
        y, x = shifts(len(q), self.train.frames.shape[2:4], self.recipe.shift, rng)
        frames, first = self.train.frames[episode, time, y, x], self.train.frames[episode, 0, y, x]
        worn = [augment(torch.from_numpy(pixels), self.recipe, generator) for pixels in (frames, first)]
        pixels = to_network(worn[0], worn[1])
        success, progress = self.model(pixels, torch.from_numpy(q.task), torch.from_numpy(q.colour))
        truth = torch.from_numpy(q.success).float()
        success_loss = F.binary_cross_entropy_with_logits(success.float(), truth)
        known = torch.from_numpy(np.isfinite(q.progress))
        progress_loss = F.binary_cross_entropy_with_logits(
            progress.float()[known], torch.from_numpy(q.progress[known.numpy()])
        )
        right = float(((success > 0) == (truth > 0.5)).float().mean())
        loss = success_loss + self.recipe.progress_weight * progress_loss
        return loss, {"success": float(success_loss.detach()), "accuracy": right}

    def _finished(self) -> JudgeNetwork:
        """A copy of the network as it is exported."""
        network = copy.deepcopy(self.model)
        assert isinstance(network, JudgeNetwork)
        with torch.no_grad():
            network.out.bias[0] += self.shift
        return network

    def _draw(self, rng: np.random.Generator) -> Questions:
        total = sum(share for _, share in self.pools)
        parts = []
        for pool, share in self.pools:
            count = max(1, round(self.recipe.batch * share / total))
            parts.append(pool.where(rng.integers(len(pool), size=count)))
        return Questions.cat(parts)

    def sample(self, step: int, out: Path) -> dict[str, float]:
        """Quality on the held-out episodes; the whole of it goes to <out>/quality.json."""
        self.quality = measure(Judge(self._finished()), self.val)
        (out / "quality.json").write_text(json.dumps(self.quality, indent=2))
        names = ("balanced_accuracy", "precision", "recall", "progress_error", "episode_agreement")
        return {f"val_{name}": self.quality[name] for name in names}

    def export(self, path: Path, about: dict[str, Any]) -> None:
        """Write the judge with its quality and how it came to be."""
        save_judge(path, self._finished(), {**self.quality, **about})

    def extra_state(self) -> dict[str, Tensor]:
        """Nothing else changes."""
        return {}

    def load_extra_state(self, state: dict[str, Tensor]) -> None:
        """Nothing else changes."""


def shifts(
    rows: int, size: tuple[int, ...], most: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices [rows, H, 1] and [rows, 1, W] that shift each row's image by up to `most` pixels, the border repeated."""
    by = rng.integers(-most, most + 1, (2, rows, 1))
    y, x = (np.clip(np.arange(n) + d, 0, n - 1) for n, d in zip(size, by, strict=True))
    return y[:, :, None], x[:, None, :]


def augment(frames: Tensor, recipe: JudgeRecipe, generator: torch.Generator) -> Tensor:
    """Frames as blurred, noisy and slightly off in contrast as imagined ones may be: uint8 [B, H, W, 3] -> the same."""
    rows, height, width, _ = frames.shape
    x = frames.permute(0, 3, 1, 2).float()

    def chance(probability: float) -> Tensor:
        return (torch.rand(rows, generator=generator) < probability)[:, None, None, None]

    def uniform() -> Tensor:
        return torch.rand(rows, generator=generator)[:, None, None, None]

    blurred = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    x = torch.where(chance(recipe.blur), x + uniform() * (blurred - x), x)
    small = F.interpolate(x, (height * 5 // 8, width * 5 // 8), mode="area")
    x = torch.where(chance(recipe.shrink), F.interpolate(small, (height, width), mode="bilinear"), x)
    tint = 2 * torch.rand((rows, 3, 1, 1), generator=generator) - 1
    x = (x - 128) * (1 + recipe.gain * (2 * uniform() - 1)) + 128 + 255 * recipe.gain / 2 * tint
    strength = torch.where(chance(0.5), recipe.noise * uniform(), torch.zeros(rows, 1, 1, 1))
    x = x + strength * torch.randn(x.shape, generator=generator)
    return x.clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1)


def measure(judge: Judge, data: EpisodeArrays, threshold: float = 0.5, batch: int = 256) -> dict[str, Any]:
    """How good a judge is on recorded episodes: every frame's own task, as the environments ask it.

    Returns:
        balanced_accuracy, precision, recall, progress_error (mean absolute), positives (their share), frames, episodes,
        per_task {task: balanced_accuracy}, and episode_agreement and episode_agreement_2: the share of episodes on
        whose success judge and twin agree when one frame, or two successive ones, must be judged a success.
    """
    q = recorded_questions(data, judge.config)
    probability, progress = np.empty(len(q)), np.empty(len(q))
    for begin in range(0, len(q), batch):
        part = slice(begin, begin + batch)
        probability[part], progress[part] = judge(
            data.frames[q.episode[part], q.time[part]],
            data.frames[q.episode[part], np.zeros_like(q.time[part])],
            [judge.config.tasks[i] for i in q.task[part]],
            [judge.config.colours[i] for i in q.colour[part]],
        )
    said = probability > threshold
    per_task = {
        name: round(balanced_accuracy(said[q.task == i], q.success[q.task == i]), 4)
        for i, name in enumerate(judge.config.tasks)
        if (q.task == i).any()
    }
    shape = data.frames.shape[:2]
    truth, answer = q.success.reshape(shape), said.reshape(shape)
    twice = answer[:, 1:] & answer[:, :-1]
    return {
        "balanced_accuracy": round(balanced_accuracy(said, q.success), 4),
        "precision": round(float(q.success[said].mean()) if said.any() else float("nan"), 4),
        "recall": round(float(said[q.success].mean()) if q.success.any() else float("nan"), 4),
        "progress_error": round(float(np.abs(np.where(said, 1.0, progress) - q.progress).mean()), 4),
        "positives": round(float(q.success.mean()), 4),
        "frames": len(q),
        "episodes": len(data),
        "per_task": per_task,
        "episode_agreement": round(float((answer.any(1) == truth.any(1)).mean()), 4),
        "episode_agreement_2": round(float((twice.any(1) == truth.any(1)).mean()), 4),
    }


def log_odds(share: float) -> float:
    """log(p / (1 - p)), with p kept off 0 and 1."""
    share = min(max(share, 1e-3), 1 - 1e-3)
    return float(np.log(share / (1 - share)))


def balanced_accuracy(said: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Mean of the shares of positives and of negatives answered rightly; NaN where one of them is missing."""
    if truth.all() or not truth.any():
        return float("nan")
    return float((said[truth].mean() + (~said[~truth]).mean()) / 2)


def train_judge(
    data: str | Path,
    out: str | Path,
    recipe: JudgeRecipe | None = None,
    *,
    train_split: str = "train",
    val_split: str = "val",
    init: str | Path | None = None,
    bf16: bool = True,
) -> Path:
    """Train a judge, or go on with one that was stopped.

    Args:
        data: A folder that `wfm-sim collect` wrote, with a training and a held-out split.
        out: Folder for checkpoints, metrics and the result.
        recipe: Steps, seed and so on.
        train_split, val_split: Names of the splits.
        init: A judge's file to start from, instead of random weights.
        bf16: Autocast; five times as fast on a CPU with AMX.

    Returns:
        <out>/model.safetensors, with its configuration and the measured quality inside.

    Raises:
        UserError: no such data, or data without success and progress.
    """
    recipe, out = recipe or JudgeRecipe(), Path(out)
    train, val = load_frames(open_dataset(data, train_split)), load_frames(open_dataset(data, val_split))
    about: dict[str, Any] = {"recipe": asdict(recipe), "training_episodes": len(train), "threshold": 0.5}
    loop = LoopConfig(
        steps=recipe.steps,
        lr=recipe.lr,
        seed=recipe.seed,
        ema=0.998,
        bf16=bf16,
        muon=False,
        sample_every=max(1, min(500, recipe.steps)),
        log_every=50,
    )
    start = None if init is None else load_judge(init)
    if start is not None:
        about["from"] = {name: start.quality.get(name) for name in ("recipe", "steps", "training_episodes", "from")}
    goals = task_goals(train, out / "goals.npz")
    torch.manual_seed(recipe.seed)
    launch(lambda rank: JudgeTask(train, val, recipe, goals, start), loop, out, about)
    return out / "model.safetensors"
