"""Training the trust network (wfm_sim/trust.py) for one world model, and calibrating it.

    path = train_trust("nano-tabletop", ["datasets/tabletop", "datasets/noisy"], "runs/train/trust")

Rolls the model out on recorded episodes (training/trust_rollouts.py) and under actions that were chosen to please the
judge (training/trust_exploits.py), learns from what became of each rollout, and calibrates on others. Where the model
has doubts of its own, the network is told them. Everything resumes where it was stopped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from wfm_sim.data.bridge import splits
from wfm_sim.errors import UserError
from wfm_sim.progress import bar
from wfm_sim.reliability import auroc, calibration_error, platt
from wfm_sim.tolerance import TOLERANCE, Tolerance
from wfm_sim.training.loop import LoopConfig, launch
from wfm_sim.training.trust_exploits import ExploitPlan, exploits
from wfm_sim.training.trust_rollouts import RolloutPlan, Rollouts, record
from wfm_sim.trust import Calibration, Trust, TrustConfig, TrustNetwork, hues, motion, save_trust, to_network
from wfm_sim.weights import weights_hash
from wfm_sim.world_model import WorldModel


@dataclass(frozen=True)
class TrustRecipe:
    """What decides the result, with the world model and the data.

    Attributes:
        episodes: Recorded episodes to imagine, of the training split.
        calibration: Of these, the share that is kept for calibration; episodes of a validation split join them.
        validation: Episodes of the validation splits at most.
        scenes: Training scenes in which the judge is exploited.
        steps, batch, lr, seed: As usual; a batch holds whole rollouts.
        shift: Pixels by which a whole rollout may be shifted: the camera is not fixed.
        tint: Range of the colour offset of a whole rollout, 0..255.
        exploit_share: Share of a batch that is exploits.
    """

    episodes: int = 1200
    calibration: float = 0.15
    validation: int = 320
    scenes: int = 16
    steps: int = 400  # with 765 rollouts held-out AUROC was best here, and 1 to 2 points lower at 1000
    batch: int = 16
    lr: float = 1.5e-3
    seed: int = 0
    shift: int = 2
    tint: float = 10.0
    exploit_share: float = 0.15


class TrustTask:
    """What training/loop.py trains: batches, loss, validation, export."""

    def __init__(
        self,
        train: Rollouts,
        exploited: Rollouts | None,
        held: Rollouts,
        recipe: TrustRecipe,
        world_model: dict[str, Any],
        tolerance: Tolerance = TOLERANCE,
        config: TrustConfig | None = None,
    ) -> None:
        height, width = train.frames.shape[2:4]
        self.config = config or TrustConfig((int(height), int(width)), doubts=bool(train.doubts.any()))
        self.model: nn.Module = TrustNetwork(self.config)
        self.train, self.exploited, self.held, self.recipe = train, exploited, held, recipe
        self.hues = {id(r): _hues(r, self.config.hues) for r in (train, exploited, held) if r is not None}
        self.world_model, self.tolerance = world_model, tolerance
        self.quality: dict[str, Any] = {}
        self.calibration = Calibration()

    def loss(self, step: int, generator: torch.Generator, rank: int) -> tuple[Tensor, dict[str, float]]:
        """Cross-entropy of both outputs, where they have a truth."""
        assert isinstance(self.model, TrustNetwork)
        rng = np.random.default_rng([self.recipe.seed, step, rank])
        exploit = 0 if self.exploited is None else round(self.recipe.batch * self.recipe.exploit_share)
        parts, colours = [], []
        for source, count in ((self.train, self.recipe.batch - exploit), (self.exploited, exploit)):
            if source is not None and count:
                rows = rng.integers(len(source), size=count)
                parts.append(source.where(rows))
                colours.append(self.hues[id(source)][rows])
        batch = Rollouts.cat(parts)
        counted = np.concatenate([_longer(c, batch.frames.shape[1]) for c in colours])
        frames = _shifted(batch.frames, self.recipe.shift, rng)
        pixels = _inputs(frames)
        tint = torch.rand((len(batch), 1, 3, 1, 1), generator=generator) * 2 - 1
        pixels = pixels + (self.recipe.tint / 127.5) * tint.repeat(1, 1, 3, 1, 1)
        memory = torch.zeros(len(batch), self.config.memory)
        logits, _ = self.model(pixels, _thrice(counted), _motion(batch, self.config), memory)
        levels = [targets(batch, self.config.horizon, level * self.tolerance.distance) for level in self.config.levels]
        truth, known = np.stack([t for t, _ in levels], axis=-1), levels[0][1]
        weight = torch.from_numpy(known).float()[..., None].expand(logits.shape)
        every = F.binary_cross_entropy_with_logits(
            logits.float(), torch.from_numpy(truth).float(), weight, reduction="sum"
        )
        level = self.model.level
        right = ((logits.detach()[..., level] > 0).numpy() == truth[..., level])[known]
        return every / weight.sum().clamp(min=1), {"accuracy": float(right.mean())}

    def sample(self, step: int, out: Path) -> dict[str, float]:
        """Calibrate on the held rollouts, and measure there; the whole of it goes to <out>/quality.json."""
        assert isinstance(self.model, TrustNetwork)
        logits = predict(self.model, self.held, self.hues[id(self.held)])
        truth, known = targets(self.held, self.config.horizon, self.tolerance.distance)
        now, stays = (platt(logits[known[..., i], i], truth[known[..., i], i]) for i in range(2))
        self.calibration = Calibration(now, stays)
        self.quality = measure(self.calibration(logits), self.held, self.config.horizon, self.tolerance.distance)
        (out / "quality.json").write_text(json.dumps(self.quality, indent=2))
        return {f"held_{name}": value for name, value in self.quality.items() if isinstance(value, float)}

    def export(self, path: Path, about: dict[str, Any]) -> None:
        """Write the network with its calibration, its quality and how it came to be."""
        assert isinstance(self.model, TrustNetwork)
        quality = {**self.quality, **about}
        save_trust(path, Trust(self.model, self.calibration, self.tolerance.to_json(), self.world_model, quality))

    def extra_state(self) -> dict[str, Tensor]:
        """Nothing else changes."""
        return {}

    def load_extra_state(self, state: dict[str, Tensor]) -> None:
        """Nothing else changes."""


def targets(rollouts: Rollouts, horizon: int, distance: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """What the two outputs should say, and where that is known: bool [N, T + 1, 2] twice.

    Now: no block farther off than `distance` pixels. Stays: the same at each of the next `horizon` steps, known where
    there are so many.
    """
    fine, valid = rollouts.error <= distance, rollouts.valid
    stays, ahead = np.ones_like(fine), np.zeros_like(fine)
    for k in range(1, horizon + 1):
        stays[:, :-k] &= fine[:, k:]
    ahead[:, :-horizon] = valid[:, horizon:]
    valid = valid.copy()
    valid[:, 0] = False  # given, so trusted by definition
    return np.stack([fine, stays], axis=-1), np.stack([valid, ahead], axis=-1)


@torch.inference_mode()
def predict(
    network: TrustNetwork, rollouts: Rollouts, colours: NDArray[np.float32] | None = None, batch: int = 16
) -> NDArray[np.float64]:
    """Logits of whole rollouts, float64 [N, T + 1, 2]; `colours` are their hues, where these are known already."""
    out, colours = [], _hues(rollouts, network.config.hues) if colours is None else colours
    for i in range(0, len(rollouts), batch):
        part = rollouts.where(slice(i, i + batch))
        memory = torch.zeros(len(part), network.config.memory)
        counted = _thrice(colours[i : i + batch])
        logits, _ = network(_inputs(part.frames), counted, _motion(part, network.config), memory)
        out.append(logits[..., network.level].double().numpy())
    return np.concatenate(out)


def measure(probability: NDArray[np.float64], rollouts: Rollouts, horizon: int, distance: float) -> dict[str, Any]:
    """AUROC and calibration of both outputs [N, T + 1, 2]; the second also among steps not diverged yet."""
    truth, known = targets(rollouts, horizon, distance)
    (now, stays), (p_now, p_stays) = (np.moveaxis(a, -1, 0) for a in (truth, probability))
    yet = known[..., 1] & now
    found = {
        "auroc_now": auroc(p_now[known[..., 0]], now[known[..., 0]]),
        "auroc_ahead": auroc(p_stays[known[..., 1]], stays[known[..., 1]]),
        "auroc_ahead_not_yet": auroc(p_stays[yet], stays[yet]),
        "ece_now": calibration_error(p_now[known[..., 0]], now[known[..., 0]]),
        "ece_ahead": calibration_error(p_stays[known[..., 1]], stays[known[..., 1]]),
        "diverged": float(1 - now[known[..., 0]].mean()),
    }
    return {k: v if v is None else round(v, 4) for k, v in found.items()} | {"episodes": len(rollouts)}


def _inputs(frames: NDArray[np.uint8]) -> Tensor:
    """uint8 [N, T + 1, H, W, 3] -> float32 [N, T + 1, 9, H, W]: each, the one before, the first."""
    now = torch.from_numpy(np.ascontiguousarray(frames))
    previous = torch.cat([now[:, :1], now[:, :-1]], dim=1)
    return to_network(now, previous, now[:, :1].expand_as(now))


def _hues(rollouts: Rollouts, parts: int) -> NDArray[np.float32]:
    """float32 [N, T + 1, parts, 3], of every frame."""
    return np.stack([hues(clip, parts) for clip in rollouts.frames])


def _thrice(colours: NDArray[np.float32]) -> Tensor:
    """[N, T + 1, K, 3] -> float32 [N, T + 1, 3, K, 3]: each frame's, the one's before, the first's."""
    now = torch.from_numpy(np.ascontiguousarray(colours))
    previous = torch.cat([now[:, :1], now[:, :-1]], dim=1)
    return torch.stack([now, previous, now[:, :1].expand_as(now)], dim=2)


def _longer(values: NDArray[Any], length: int) -> NDArray[Any]:
    """Along axis 1, the last entry repeated."""
    return values[:, np.minimum(np.arange(length), values.shape[1] - 1)]


def _motion(rollouts: Rollouts, config: TrustConfig) -> Tensor:
    """float32 [N, T + 1, config.motion]: the action that led to each frame (none to the first), the pose, and doubts
    where they are told."""
    still = np.zeros_like(rollouts.actions[:, :1])
    still[..., 6] = rollouts.poses[:, :1, 6]
    actions = np.concatenate([still, rollouts.actions], axis=1)
    return motion(actions, rollouts.poses, rollouts.doubts if config.doubts else None)


def _shifted(frames: NDArray[np.uint8], most: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Each rollout [T, H, W, 3] shifted as a whole by up to `most` pixels, the border repeated."""
    rows, _, height, width, _ = frames.shape
    dy, dx = rng.integers(-most, most + 1, (2, rows, 1))
    y, x = np.clip(np.arange(height) + dy, 0, height - 1), np.clip(np.arange(width) + dx, 0, width - 1)
    moved = [clip[:, a][:, :, b] for clip, a, b in zip(frames, y, x, strict=True)]
    return np.stack(moved)


def train_trust(
    model: WorldModel,
    data: Sequence[str | Path],
    out: str | Path,
    recipe: TrustRecipe | None = None,
    *,
    judge: Any = None,
    tolerance: Tolerance = TOLERANCE,
    ranks: int = 1,
) -> Path:
    """Roll out, train and calibrate, or go on with a run that was stopped.

    Args:
        model: The world model that the trust is for.
        data: Folders that `wfm-sim collect` wrote, with a training split; a validation split serves to calibrate.
        out: Folder for rollouts, checkpoints, metrics and the result.
        recipe: Sizes, steps, seed.
        judge: Whose answer exploits are chosen by; None leaves them out.
        tolerance: What counts as diverged.

    Returns:
        <out>/model.safetensors.

    Raises:
        UserError: no data, data that does not fit the model, or a folder that was trained for other weights.
    """
    recipe, out = recipe or TrustRecipe(), Path(out)
    if not data:
        raise UserError("trust is trained on recorded episodes: name at least one data set")
    if recipe.episodes < 4:
        raise UserError(f"episodes must be at least 4, not {recipe.episodes}")
    paths = [Path(path) for path in data]
    about_model = {"name": model.spec.name, "hash": weights_hash(model)}
    if hasattr(model, "parameters"):
        about_model["parameters"] = sum(p.numel() for p in model.parameters())
    _same_model(out, about_model)
    cache = out / "rollouts"
    with bar(f"imagined by {model.spec.name}") as progress:
        recorded = record(model, paths, RolloutPlan(recipe.episodes, seed=recipe.seed), cache, tolerance, progress)
    unseen = [path for path in paths if "val" in splits(path)]
    held_parts = []
    if unseen and recipe.validation:
        plan = RolloutPlan(recipe.validation, seed=recipe.seed, split="val")
        with bar("validation episodes") as progress:
            held_parts.append(record(model, unseen, plan, cache, tolerance, progress))
    exploited = None
    if judge is not None and recipe.scenes:
        with bar("judge exploited in") as progress:
            plan_exploits = ExploitPlan(recipe.scenes, seed=recipe.seed)
            found = exploits(model, judge, paths, plan_exploits, cache, tolerance, progress)
        kept = max(1, round(len(found) * recipe.calibration))
        held_parts.append(found.where(slice(0, kept)))
        exploited = found.where(slice(kept, None))
    kept = max(1, round(len(recorded) * recipe.calibration))
    held = Rollouts.cat([recorded.where(slice(0, kept)), *held_parts])
    train = recorded.where(slice(kept, None))
    about = {"recipe": asdict(recipe), "data": [path.name for path in paths], "training_episodes": len(train)}
    about["exploits"] = 0 if exploited is None else len(exploited)
    loop = LoopConfig(
        steps=recipe.steps,
        lr=recipe.lr,
        seed=recipe.seed,
        weight_decay=0.05,
        ema=0.995,
        muon=False,
        ranks=ranks,
        sample_every=max(1, min(400, recipe.steps)),
        log_every=50,
    )
    torch.manual_seed(recipe.seed)
    launch(lambda rank: TrustTask(train, exploited, held, recipe, about_model, tolerance), loop, out, about)
    return out / "model.safetensors"


def _same_model(out: Path, about: dict[str, Any]) -> None:
    """A run's checkpoint goes on with the same world model only."""
    path = out / "world_model.json"
    text = json.dumps(about)
    if not path.is_file():
        out.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    elif path.read_text() != text:
        raise UserError(
            f"{out}: holds a run for other weights of {json.loads(path.read_text()).get('name')!r}; "
            "choose another folder, or delete it"
        )
