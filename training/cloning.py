"""Behaviour cloning (policies/learned.py) from experts' episodes of the physics twin.

    paths = train_policy("datasets/tabletop", "runs/bc-state", "state")   # resumes where it was stopped

One run leaves a policy for each of several stages of training, `stage-<step>.safetensors`, so that policies of graded
skill come of it; each tells its success in the twin in its metadata (cloning_success.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from wfm_sim.data.files import read_json, write_json
from wfm_sim.errors import UserError, unknown
from wfm_sim.policies.cloning_network import (
    FORMS,
    LAYOUT_SCALE,
    ActionChunk,
    CloningConfig,
    PixelNetwork,
    StateNetwork,
    action_scale,
    make_network,
    to_network,
)
from wfm_sim.policies.learned import save_policy
from wfm_sim.training.cloning_data import Teachers, load_teachers
from wfm_sim.training.judge import JudgeRecipe, augment
from wfm_sim.training.loop import LoopConfig, launch

HELD_OUT = 20  # every so-manieth episode is for validation
RUN = "recipe.json"


@dataclass(frozen=True)
class CloningRecipe:
    """What decides the result, with the data.

    Attributes:
        steps, lr, seed: As usual.
        stages: Steps after which a policy is kept; the last step always is.
        episodes: Teachers at most, None for all.
        noise: Largest noise of an expert that is still a teacher.
        batch: Episodes per step; `times` moments of each are drawn (the first frame is then looked at once for all).
        chunk: Actions predicted at once.
        move_weight, layout_weight: Weight of the displacements' loss and of the pixel form's layout loss; the gripper's
            is 1.
    """

    steps: int
    stages: tuple[int, ...]
    batch: int
    times: int
    lr: float = 2e-3
    seed: int = 0
    episodes: int | None = None
    noise: float = 0.3
    chunk: int = 6
    move_weight: float = 3.0
    layout_weight: float = 2.0


RECIPES = {
    "state": CloningRecipe(steps=4000, stages=(300, 400, 1000, 4000), batch=64, times=4),
    "pixels": CloningRecipe(steps=2400, stages=(300, 800, 2400), batch=16, times=2, episodes=2000),
}


class CloningTask:
    """What training/loop.py trains: batches, loss, validation, export, and the stages."""

    def __init__(self, teachers: Teachers, form: str, recipe: CloningRecipe, about: dict[str, Any]) -> None:
        names = dict(sorted(zip(teachers.task_index.tolist(), teachers.tasks, strict=True)))
        if list(names) != list(range(len(names))):
            raise UserError(f"the teachers' tasks are numbered {list(names)}, expected 0, 1, ... without a gap")
        tasks = tuple(names.values())
        colours = tuple(sorted(set(teachers.colours))) if form == "pixels" else ()
        size = (64, 64) if teachers.frames is None else teachers.frames.shape[1:3]
        palette = tuple(teachers.palette[name] for name in colours)
        frame_size = (int(size[0]), int(size[1]))
        self.config = CloningConfig(form, tasks, colours, palette, recipe.chunk, frame_size=frame_size)
        self.model: nn.Module = make_network(self.config)
        self.recipe, self.data, self.about = recipe, teachers, about
        self.colour_index = np.array([colours.index(name) if colours else 0 for name in teachers.colours])
        number = np.arange(len(teachers))
        self.val = number[number % HELD_OUT == HELD_OUT - 1]
        self.train = np.setdiff1d(number, self.val)
        if not len(self.val):
            raise UserError(f"{len(teachers)} teachers' episodes, at least {HELD_OUT} are needed")
        self.look = JudgeRecipe()  # imagined frames are blurred and off in colour; the judge's augmentation has that

    def loss(self, step: int, generator: torch.Generator, rank: int) -> tuple[Tensor, dict[str, float]]:
        """`chunk_loss` of displacements and gripper, and the error of the layout (pixels)."""
        rng = np.random.default_rng([self.recipe.seed, step, rank])
        # Every other step sees frames as they are: wearing them down costs as much as the network.
        worn = generator if step % 2 else None
        return self._loss(rng.choice(self.train, self.recipe.batch), rng, worn)

    def _loss(
        self, episodes: NDArray[np.int64], rng: np.random.Generator, generator: torch.Generator | None
    ) -> tuple[Tensor, dict[str, float]]:
        data, times = self.data, self.recipe.times
        begin, end = data.offsets[episodes], data.offsets[episodes + 1]
        at = begin[:, None] + (rng.random((len(episodes), times)) * (end - begin)[:, None]).astype(np.int64)
        at, of = at.ravel(), np.repeat(np.arange(len(episodes)), times)
        pose, task = torch.from_numpy(data.poses[at]), torch.from_numpy(data.task_index[episodes])
        layout = torch.from_numpy(data.layouts[episodes])[of]
        metrics: dict[str, float] = {}
        extra: Tensor | float = 0.0
        if isinstance(self.model, StateNetwork):
            said = self.model(pose, layout, task[of])
        else:
            assert isinstance(self.model, PixelNetwork)
            colour = torch.from_numpy(self.colour_index[episodes])
            first = self.model.look(self._seen(begin, generator), task, colour, 0)
            now = self.model.look(self._seen(at, generator), task[of], colour[of], 1)
            start = torch.from_numpy(data.poses[begin])
            said, guess = self.model(first[of], now, start[of], pose, task[of])
            wrong = (guess - layout) / torch.tensor(LAYOUT_SCALE)
            extra = self.recipe.layout_weight * wrong.abs().mean()
            metrics["layout_mm"] = 1000 * float((guess - layout)[:, [0, 1, 4, 5]].detach().abs().mean())
        steps = at[:, None] + np.arange(self.config.chunk)
        known = torch.from_numpy(steps < end[of][:, None])
        wanted = torch.from_numpy(data.actions[np.minimum(steps, len(data.actions) - 1)])
        moved, gripper, error = chunk_loss(said, wanted, known)
        metrics |= {"move": float(moved.detach()), "gripper": float(gripper.detach()), "error": float(error)}
        return self.recipe.move_weight * moved + gripper + extra, metrics

    def _seen(self, at: NDArray[np.int64], generator: torch.Generator | None) -> Tensor:
        assert self.data.frames is not None
        frames = torch.from_numpy(self.data.frames[at])
        return to_network(frames if generator is None else augment(frames, self.look, generator))

    def sample(self, step: int, out: Path) -> dict[str, float]:
        """Loss on the held-out episodes; at a stage, the policy is written too."""
        with torch.inference_mode():
            loss, metrics = self._loss(self.val, np.random.default_rng(0), None)
        if step in stages(self.recipe):
            path = stage_path(out, step)
            if not path.is_file():  # a run resumed from before it comes to the same weights
                told = {"val_loss": round(float(loss), 4), "val_error": round(metrics["error"], 4)}
                save_policy(path, self._network(), {**self.about, "stage": step, **told})
        return {"val_loss": float(loss), **{f"val_{name}": value for name, value in metrics.items()}}

    def export(self, path: Path, about: dict[str, Any]) -> None:
        """Write the policy as it is now."""
        save_policy(path, self._network(), {**self.about, **about})

    def _network(self) -> StateNetwork | PixelNetwork:
        assert isinstance(self.model, StateNetwork | PixelNetwork)
        return self.model

    def extra_state(self) -> dict[str, Tensor]:
        """Nothing else changes."""
        return {}

    def load_extra_state(self, state: dict[str, Tensor]) -> None:
        """Nothing else changes."""


def chunk_loss(said: ActionChunk, actions: Tensor, known: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Losses of displacements (per number) and of the gripper (per step), and how far off the displacements are.

    The displacements' loss is the negative log likelihood of a Laplace distribution, each number's multiplied by its
    own scale, without a gradient through that factor (beta-NLL with beta = 1: Seitzer et al. 2022, arXiv:2203.09168).
    The gradient of a median is then that of the absolute error. In the plain likelihood it is divided by the scale:
    what is easily predicted (a wrist that stays level) outweighs what is not by a hundred to one, and little else is
    learned.

    Args:
        said: The prediction.
        actions: float32 [B, chunk, 7], canonical.
        known: bool [B, chunk], False after the episode's end.

    Returns:
        Both losses; and the mean absolute error of the displacements as a fraction of their bounds, without gradient.
    """
    wanted = actions[..., :6] / action_scale()
    off = (wanted - said.median).abs()
    nll = off / said.scale + torch.log(2 * said.scale)
    weight = known.float() / known.sum()
    moved = ((nll * said.scale.detach()).mean(-1) * weight).sum()
    cross = F.binary_cross_entropy_with_logits(said.gripper, (actions[..., 6] > 0.5).float(), reduction="none")
    return moved, (cross * weight).sum(), (off.detach().mean(-1) * weight).sum()


def stages(recipe: CloningRecipe) -> tuple[int, ...]:
    """Steps at which a policy is kept."""
    return tuple(sorted({step for step in recipe.stages if step < recipe.steps} | {recipe.steps}))


def stage_path(out: Path, step: int) -> Path:
    """Where the policy of a stage is written."""
    return out / f"stage-{step}.safetensors"


def train_policy(
    data: str | Path,
    out: str | Path,
    form: str,
    recipe: CloningRecipe | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Train a policy, or go on with one that was stopped.

    Args:
        data: A folder that `wfm-sim collect` wrote.
        out: Folder for checkpoints, metrics and the stages' policies.
        form: 'state' or 'pixels'.
        recipe: Steps, seed and so on; None takes RECIPES[form].
        progress: Called with (episodes read, episodes in all).

    Returns:
        The stages' files, from the earliest to the last.

    Raises:
        UserError: an unknown form, data that cannot be learned from, or a folder in which another run was begun.
    """
    if form not in FORMS:
        raise unknown("form of policy", form, FORMS)
    recipe, out = recipe or RECIPES[form], Path(out)
    if recipe.steps < 1:
        raise UserError(f"steps must be at least 1, not {recipe.steps}")
    run = {"form": form, "data": Path(data).name, **asdict(recipe)}
    _check_same_run(out, run)
    teachers = load_teachers(
        data,
        noise=recipe.noise,
        limit=recipe.episodes,
        frames=form == "pixels",
        cache=out / "cache",
        progress=progress,
    )
    write_json(out / RUN, run)
    about = {"recipe": asdict(recipe), "data": Path(data).name, "teachers": len(teachers)}
    every = math.gcd(*stages(recipe))
    loop = LoopConfig(
        steps=recipe.steps,
        lr=recipe.lr,
        warmup=min(50, max(1, recipe.steps // 10)),
        seed=recipe.seed,
        ema=0.99,
        muon=False,
        sample_every=every,
        checkpoint_every=every,
        log_every=min(50, every),
    )
    torch.manual_seed(recipe.seed)
    launch(lambda rank: CloningTask(teachers, form, recipe, about), loop, out, about)
    return [stage_path(out, step) for step in stages(recipe)]


def _check_same_run(out: Path, wanted: dict[str, Any]) -> None:
    """A run that is resumed must be the same one: what it is lies in <out>/recipe.json."""
    path = out / RUN
    if not path.is_file():
        return
    found = read_json(path)
    for name, value in json.loads(json.dumps(wanted)).items():
        if found.get(name) != value:
            raise UserError(
                f"{out}: a run with {name} {found.get(name)!r} was begun there, not {value!r}; choose another folder"
            )
