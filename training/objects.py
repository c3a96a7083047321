"""Training of a simulator's memory of objects: the reader of frames, the dynamics, the painter (`object_painting`).

The reader learns from every frame of collected episodes where the gripper and each visible block are. The dynamics
learns from the recorded positions alone, unrolled over many steps on its own outcomes, from starts that are as far off
as the reader's are, and half of them with left and right exchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from wfm_sim.data.files import atomic_path
from wfm_sim.errors import UserError
from wfm_sim.models.causal_world import CausalWorldModel, frames_to_tensor
from wfm_sim.models.checkpoint import load, save
from wfm_sim.models.object_dynamics import STEP_SCALE, ObjectDynamics, ObjectMemory
from wfm_sim.models.object_memory import ObjectConfig
from wfm_sim.models.object_reader import CELL, CENTRE, HAND, PLACE, POSE, POSITION, POSITION_SCALE, YAW, ObjectReader
from wfm_sim.training.action_recipe import encode_all
from wfm_sim.training.loop import LoopConfig, launch
from wfm_sim.training.object_data import Bodies, load_bodies
from wfm_sim.training.object_painting import PainterTask, Painting
from wfm_sim.training.object_states import States, play_states

# Per-number deviations by which a reading is off (metres, radians), and an object seen from the gripper: about those of
# a trained reader on frames that it has not seen.
GRIPPER_NOISE = (0.004, 0.004, 0.004, 0.03, 0.03, 0.03)
OBJECT_NOISE, YAW_NOISE = 0.003, 0.1
UNSEEN_SEED = 1000  # of episodes without frames; no data set should have it
ROBUST = 0.002  # metres; errors below it count squared


@dataclass(frozen=True)
class ObjectsRecipe:
    """What `wfm-sim train objects` runs.

    Attributes:
        data, out: A data set of `wfm-sim collect`, and the run's folder.
        init: World model that gets a memory of objects.
        objects: Its sizes.
        reader, dynamics: The two trainings.
        reader_batch: Frames per step and rank; dynamics_batch: Clips.
        unroll: Clips that the dynamics is unrolled over, in steps.
        unseen: Further episodes that it learns from, played in the twin without frames.
        painter, painting: The third training, and how it is done.
    """

    data: Path
    out: Path
    init: Path | str = "nano-tabletop"
    objects: ObjectConfig = field(default_factory=ObjectConfig)
    reader: LoopConfig = field(default_factory=lambda: LoopConfig(steps=4000))
    dynamics: LoopConfig = field(default_factory=lambda: LoopConfig(steps=4000))
    reader_batch: int = 48
    dynamics_batch: int = 192
    unroll: int = 24
    unseen: int = 0
    painter: LoopConfig = field(default_factory=lambda: LoopConfig(steps=2400))
    painting: Painting = field(default_factory=Painting)
    split: str | None = "train"
    val_split: str | None = "val"


class _Plain:
    """A task in which nothing but the network changes, and whose network is kept alone."""

    model: Any

    def export(self, path: Path, about: dict[str, Any]) -> None:
        """Write the network's weights."""
        with atomic_path(path) as partial_path:
            save_file({k: v.contiguous() for k, v in self.model.state_dict().items()}, partial_path)

    def extra_state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def load_extra_state(self, state: dict[str, Tensor]) -> None:
        """Nothing."""


class ReaderTask(_Plain):
    """See the module docstring. Loss: focal for centres, robust distances for the rest."""

    def __init__(self, recipe: ObjectsRecipe, rank: int) -> None:
        self.recipe = recipe
        size = load(recipe.init, dtype=torch.float32).cfg.frame_size
        self.bodies, self.val = _bodies(recipe, size)
        self.hand = {id(bodies): bodies.hand for bodies in (self.bodies, self.val)}
        self.model = ObjectReader(size, recipe.objects.width)
        pose = torch.from_numpy(np.array(self.bodies.gripper))
        self.model.pose_mean.copy_(pose.mean(dim=0))
        self.model.pose_std.copy_(pose.std(dim=0).clamp(min=1e-3))

    def loss(self, step: int, generator: torch.Generator, rank: int) -> tuple[Tensor, dict[str, float]]:
        index = torch.randint(len(self.bodies.gripper), (self.recipe.reader_batch,), generator=generator).numpy()
        frames = frames_to_tensor(np.array(self.bodies.frames.frames[np.sort(index)])[:, None])[:, :, 0]
        # brighter, darker, noisier: the look of a frame must not matter
        gain = 1 + 0.1 * torch.randn(len(frames), 3, 1, 1, generator=generator)
        frames = frames * gain + 0.03 * torch.randn(frames.shape, generator=generator)
        return self._errors(self.bodies, np.sort(index), self.model(frames))

    def _errors(self, bodies: Bodies, index: np.ndarray, cells: Tensor) -> tuple[Tensor, dict[str, float]]:
        truth = _targets(bodies, self.hand[id(bodies)], index, (cells.shape[2], cells.shape[3]))
        frame = truth.frame
        told = cells[frame, :, truth.cell[:, 1], truth.cell[:, 0]]
        hand = cells[torch.arange(len(index)), :, truth.hand_cell[:, 1], truth.hand_cell[:, 0]][:, POSE]
        centre = _focal(cells[:, CENTRE], truth.heat) / max(1, len(frame))
        found = _focal(cells[:, HAND], truth.hand_heat) / len(index)
        place = (told[:, PLACE] - truth.place).abs().mean()
        # metres times ten; what both are off by in common matters less than where one is from the other
        position = told[:, POSITION] * POSITION_SCALE + self.model.pose_mean[:3]
        gripper = hand * self.model.pose_std + self.model.pose_mean
        seen = position - gripper[frame, :3]
        off = seen - (truth.position - truth.gripper[frame, :3])
        alone = F.smooth_l1_loss(10 * position, 10 * truth.position, beta=0.05)
        posed = F.smooth_l1_loss(hand, (truth.gripper - self.model.pose_mean) / self.model.pose_std, beta=0.1)
        yaw = (told[:, YAW] - truth.yaw).abs().mean()
        from_hand = F.smooth_l1_loss(10 * off, torch.zeros_like(off), beta=0.02)
        loss = centre + found + place + 2 * alone + 2 * posed + 6 * from_hand + 0.3 * yaw
        metrics = {
            "centre": centre,
            "hand": found,
            "place_px": place * CELL,
            "seen_mm": off.norm(dim=-1).mean() * 1000,
            "seen_median_mm": off.norm(dim=-1).median() * 1000,
            "yaw": yaw,
            "gripper_mm": (gripper - truth.gripper)[:, :3].norm(dim=-1).mean() * 1000,
            "gripper_turn": (gripper - truth.gripper)[:, 3:6].abs().mean(),
            "gripper_open": (gripper - truth.gripper)[:, 6].abs().mean(),
        }
        return loss, {k: float(v.detach()) for k, v in metrics.items()}

    @torch.no_grad()
    def sample(self, step: int, out: Path) -> dict[str, float]:
        """Errors on the validation episodes, and how many objects of their first frames are found."""
        rows: list[dict[str, float]] = []
        for i in range(0, len(self.val.gripper), 256):
            index = np.arange(i, min(i + 256, len(self.val.gripper)))
            frames = frames_to_tensor(np.array(self.val.frames.frames[index])[:, None])[:, :, 0]
            rows.append(self._errors(self.val, index, self.model(frames))[1])
        result = {f"val_{k}": float(np.mean([r[k] for r in rows])) for k in rows[0]}
        first = self.val.frames.offsets[:-1]
        frames = frames_to_tensor(np.array(self.val.frames.frames[first])[:, None])[:, :, 0]
        read = self.model.read(frames, self.recipe.objects.slots, self.recipe.objects.threshold)
        result["val_count_wrong"] = float((read.present.sum(1).numpy() != self.val.present[first].sum(1)).mean())
        return result


class DynamicsTask(_Plain):
    """See the module docstring. Loss: robust distance to the recorded positions, and how well its doubt is sized."""

    def __init__(self, recipe: ObjectsRecipe, rank: int) -> None:
        self.recipe = recipe
        size = load(recipe.init, dtype=torch.float32).cfg.frame_size
        bodies, self.val = _bodies(recipe, size)
        self.bodies = States(bodies.frames.offsets, bodies.gripper, bodies.position, bodies.yaw)
        if recipe.unseen:
            self.bodies = States.cat([self.bodies, _unseen(recipe)])
        self.model = ObjectDynamics(recipe.objects.hidden)
        t, offsets = recipe.unroll, self.bodies.offsets
        self.starts = np.concatenate([np.arange(a, b - t) for a, b in pairwise(offsets) if b - a > t])
        step = np.linalg.norm(np.diff(np.nan_to_num(self.bodies.position), axis=0), axis=-1).max(axis=-1) > 0.002
        moves = np.concatenate(([0], np.cumsum(step), [step.sum()]))
        busy = moves[self.starts + t] - moves[self.starts] > 0
        self.chance = np.cumsum(np.where(busy, 4.0, 1.0))
        self.chance /= self.chance[-1]

    def loss(self, step: int, generator: torch.Generator, rank: int) -> tuple[Tensor, dict[str, float]]:
        u = torch.rand(self.recipe.dynamics_batch, generator=generator, dtype=torch.float64).numpy()
        first = self.starts[np.searchsorted(self.chance, u).clip(max=len(self.starts) - 1)]
        gripper, position, yaw, present = clips(self.bodies, first, self.recipe.unroll, generator)
        memory = started(gripper[:, 0], position[:, 0], yaw[:, 0], present, generator)
        # what is commanded is known; where the gripper was read is off by the same all along
        off = memory.gripper - gripper[:, 0]
        total, away, last = torch.zeros(()), torch.zeros(()), torch.zeros(present.shape)
        for k in range(1, gripper.shape[1]):
            memory, error = self.model(memory, _led(memory.gripper, gripper[:, k - 1], gripper[:, k]))
            seen = position[:, k] + off[:, None, :3].float()
            miss = (memory.position - seen).norm(dim=-1)
            robust = ((miss**2 + ROBUST**2).sqrt() - ROBUST) / STEP_SCALE
            # doubt is of a single step's error: what the miss grew by
            grown = (miss.detach() - last).abs() / STEP_SCALE
            sized = grown * (-error).exp() + error
            turned = (memory.yaw - yaw[:, k]).norm(dim=-1)
            weight = present / present.sum().clamp(min=1)
            far = (miss.detach() < 0.1).float()  # lost causes must not outweigh the rest
            total = total + ((robust * (0.2 + 0.8 * far) + 0.05 * turned * far + 0.03 * sized) * weight).sum()
            last = miss.detach()
            away = away + (last * weight).sum()
        steps = gripper.shape[1] - 1
        return total / steps, {"away_mm": float(away / steps) * 1000}

    @torch.no_grad()
    def sample(self, step: int, out: Path) -> dict[str, float]:
        """Up to 24 steps open loop from perfect and from noisy starts of the validation episodes."""
        self.model.eval()
        generator = torch.Generator().manual_seed(0)
        first = self.val.frames.offsets[:-1]
        steps = min(24, int(np.diff(self.val.frames.offsets).min()) - 1)
        gripper, position, yaw, present = clips(self.val, first, steps)
        result = {}
        for name, noise in (("", None), ("_noisy", generator)):
            memory = started(gripper[:, 0], position[:, 0], yaw[:, 0], present, noise)
            off = memory.gripper - gripper[:, 0]
            for k in range(1, steps + 1):
                memory, _ = self.model(memory, _led(memory.gripper, gripper[:, k - 1], gripper[:, k]))
            miss = (memory.position - position[:, -1] - off[:, None, :3].float()).norm(dim=-1)
            moved = (position[:, -1] - position[:, 0]).norm(dim=-1) > 0.02
            for what, rows in (("moved", moved), ("still", ~moved)):
                values = miss[rows & (present > 0)]
                result[f"{what}{name}_mm"] = float(values.mean()) * 1000
                result[f"{what}{name}_median_mm"] = float(values.median()) * 1000
            result[f"moved{name}_within_2cm"] = float((miss[moved & (present > 0)] < 0.02).float().mean())
        self.model.train()
        return result


def clips(
    bodies: Bodies | States, first: np.ndarray, steps: int, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Clips of steps + 1 frames: gripper float64 [B, T, 7], positions [B, T, K, 3], headings [B, T, K, 2] (cosine and
    sine of four times them) and which objects there are [B, K]. With a generator, half of them are mirrored."""
    index = first[:, None] + np.arange(steps + 1)
    gripper = torch.from_numpy(bodies.gripper[index]).double()
    position, yaw = torch.from_numpy(bodies.position[index]), torch.from_numpy(bodies.yaw[index])
    present = position[:, 0, :, 0].isfinite().float()
    position, yaw = position.nan_to_num(0.0), yaw.nan_to_num(0.0)
    if generator is not None:
        sign = torch.where(torch.rand(len(first), generator=generator) < 0.5, -1.0, 1.0)
        gripper = (
            gripper * torch.stack([sign if i in (1, 3, 5) else torch.ones_like(sign) for i in range(7)], -1)[:, None]
        )
        position = position * torch.stack((torch.ones_like(sign), sign, torch.ones_like(sign)), -1)[:, None, None]
        yaw = yaw * sign[:, None, None]
    return gripper, position, torch.stack(((4 * yaw).cos(), (4 * yaw).sin()), dim=-1), present


def started(
    gripper: Tensor, position: Tensor, yaw: Tensor, present: Tensor, generator: torch.Generator | None
) -> ObjectMemory:
    """What a reader would make of a first frame: the truth, with a reader's errors if a generator is given."""
    if generator is not None:
        level = torch.rand(len(gripper), 1, generator=generator) * 2  # from a perfect reading to twice the usual
        off = torch.randn(len(gripper), 6, generator=generator) * torch.tensor(GRIPPER_NOISE) * level
        gripper = gripper + F.pad(off, (0, 1)).double()
        position = position + off[:, None, :3]  # objects are seen from the gripper: the error is shared
        position = position + torch.randn(position.shape, generator=generator) * OBJECT_NOISE * level[..., None]
        turn = torch.randn(present.shape, generator=generator) * YAW_NOISE * 4 * level
        c, s = turn.cos(), turn.sin()
        yaw = torch.stack((c * yaw[..., 0] - s * yaw[..., 1], s * yaw[..., 0] + c * yaw[..., 1]), dim=-1)
    return ObjectMemory.at_rest(gripper, present, torch.zeros_like(yaw), position, yaw)


def _led(read: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """The pose that a gripper read as `read` is led to by what leads from `before` to `after`."""
    out = read + after - before
    return torch.cat((out[:, :6], after[:, 6:]), dim=-1)


@dataclass
class _Targets:
    """What the reader is to say of N frames with M visible objects.

    Attributes:
        heat, hand_heat: [N, h, w], 1 in the cell of an object's centre (the gripper's), less round it.
        frame: int64 [M], in which frame each object is; cell: int64 [M, 2], in which column and line.
        hand_cell: int64 [N, 2], the gripper's.
        place: [M, 2], from the middle of the cell, in cells.
        position, yaw: [M, 3] metres and [M, 2], as in `Reading`.
        gripper: [N, 7].
    """

    heat: Tensor
    hand_heat: Tensor
    frame: Tensor
    cell: Tensor
    hand_cell: Tensor
    place: Tensor
    position: Tensor
    yaw: Tensor
    gripper: Tensor


def _targets(bodies: Bodies, hand: np.ndarray, index: np.ndarray, grid: tuple[int, int]) -> _Targets:
    """Of the frames `index`; hand: [N, 2], `Bodies.hand`."""
    seen = bodies.seen[index] & bodies.present[index]
    place = (bodies.place[index] + 0.5) / CELL
    inside = (place >= 0).all(-1) & (place < [grid[1], grid[0]]).all(-1)
    there = np.nonzero(seen & inside)
    at = place[there]
    cell = np.floor(at).astype(np.int64)
    held = ((hand[index] + 0.5) / CELL).clip(0, [grid[1] - 0.01, grid[0] - 0.01])
    yaw = 4 * bodies.yaw[index][there]
    return _Targets(
        heat=_heat(at, there[0], len(index), grid),
        hand_heat=_heat(held, np.arange(len(index)), len(index), grid),
        frame=torch.from_numpy(there[0]),
        cell=torch.from_numpy(cell),
        hand_cell=torch.from_numpy(np.floor(held).astype(np.int64)),
        place=torch.from_numpy((at - cell - 0.5).astype(np.float32)),
        position=torch.from_numpy(bodies.position[index][there]),
        yaw=torch.from_numpy(np.stack((np.cos(yaw), np.sin(yaw)), axis=-1).astype(np.float32)),
        gripper=torch.from_numpy(np.array(bodies.gripper[index])),
    )


def _heat(at: np.ndarray, frame: np.ndarray, frames: int, grid: tuple[int, int]) -> Tensor:
    """[frames, h, w]: spots round places `at`, [M, 2] in cells, of the given frames; 1 in their own cells."""
    x, y = np.arange(grid[1]) + 0.5, np.arange(grid[0]) + 0.5
    spots = np.exp(-((x - at[:, :1]) ** 2)[:, None, :] - ((y - at[:, 1:]) ** 2)[:, :, None])
    heat = np.zeros((frames, *grid), np.float32)
    np.maximum.at(heat, frame, spots.astype(np.float32))
    column, line = np.floor(at).astype(int).T
    heat[frame, line, column] = 1
    return torch.from_numpy(heat)


def _focal(score: Tensor, heat: Tensor) -> Tensor:
    """Focal loss of a map of centres (CenterNet's), summed: [N, h, w] each."""
    p = score.sigmoid().clamp(1e-5, 1 - 1e-5)
    return torch.where(heat > 0.999, -((1 - p) ** 2) * p.log(), -((1 - heat) ** 4) * p**2 * (1 - p).log()).sum()


def _bodies(recipe: ObjectsRecipe, size: tuple[int, int]) -> tuple[Bodies, Bodies]:
    """Those to train on, and those to validate on (the same, where there are no others)."""
    cache = recipe.out.parent / "cache"
    bodies = load_bodies(recipe.data, size, cache, recipe.split)
    try:
        return bodies, load_bodies(recipe.data, size, cache, recipe.val_split)
    except UserError:
        return bodies, bodies


def _unseen(recipe: ObjectsRecipe) -> States:
    return play_states(recipe.out.parent / "cache" / "states", recipe.unseen, UNSEEN_SEED)


class _PainterTask(PainterTask, _Plain):
    """The painter of a recipe, as the training loop wants it: all rollouts begin anew where a checkpoint is."""

    def __init__(self, recipe: ObjectsRecipe, rank: int) -> None:
        world = with_objects(load(recipe.init, dtype=torch.float32), None)
        bodies, val = _bodies(recipe, world.cfg.frame_size)
        latents = encode_all(world, bodies.frames, recipe.painter.bf16)
        super().__init__(world, bodies, val, latents, recipe.painting, recipe.objects.painter)


PARTS: dict[str, Callable[..., Any]] = {"reader": ReaderTask, "dynamics": DynamicsTask, "painter": _PainterTask}


def train_objects(recipe: ObjectsRecipe) -> Path:
    """Train the three networks, resuming what is there, and put them into a copy of `init`: <out>/model.safetensors.

    Raises:
        UserError: no such world model, data without objects, or checkpoints between two cycles of the painter.
    """
    if recipe.painter.checkpoint_every % recipe.painting.cycle:
        raise UserError(f"the painter's checkpoints must be multiples of {recipe.painting.cycle} steps apart")
    start = load(recipe.init, dtype=torch.float32)
    bodies, _ = _bodies(recipe, start.cfg.frame_size)
    if recipe.unseen:
        _unseen(recipe)
    for name, task in PARTS.items():
        launch(partial(task, recipe), getattr(recipe, name), recipe.out / name, {})
    world = with_objects(start, recipe.objects)
    assert world.objects is not None
    for name in PARTS:
        getattr(world.objects, name).load_state_dict(load_file(recipe.out / name / "model.safetensors"))
    world.objects.projection.copy_(torch.from_numpy(bodies.projection))
    path = recipe.out / "model.safetensors"
    save(world, path, about={**start.metadata, "objects": recipe.data.name})
    return path


def with_objects(world: CausalWorldModel, objects: ObjectConfig | None) -> CausalWorldModel:
    """The same world with a (fresh) memory of objects, or without one."""
    other = CausalWorldModel(replace(world.cfg, objects=objects))
    other.load_state_dict({k: v for k, v in world.state_dict().items() if not k.startswith("objects.")}, strict=False)
    other.metadata = world.metadata
    return other.train(world.training)
