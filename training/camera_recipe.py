"""What `wfm-sim train camera` runs, stage by stage: the tokenizer is tuned on the pictures, the depth network is
trained where depth is known, then the denoiser (wfm_sim.training.camera)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from wfm_sim.errors import UserError
from wfm_sim.models.camera_published import CAMERA_STARTS, load_camera_start
from wfm_sim.models.camera_world import CameraWorldModel
from wfm_sim.models.causal_world import CausalWorldModel, WorldConfig
from wfm_sim.models.checkpoint import load, save
from wfm_sim.models.presets import nano_rooms
from wfm_sim.training.camera_frames import load_camera_frames
from wfm_sim.training.depth import DepthRecipe, DepthTask
from wfm_sim.training.loop import LoopConfig, launch
from wfm_sim.training.tokenizer import TokenizerRecipe, TokenizerTask


@dataclass(frozen=True)
class CameraRecipe:
    """What `wfm-sim train camera` runs.

    Attributes:
        data, out: A data set of clips with cameras (`open_camera_dataset`) and the run's folder.
        init: A camera world to train on from, the world whose tokenizer is taken over, or a published Video2World
            network (`wfm_sim.models.camera_published`), then with its `checkpoint`, `frame_size` and `rays`.
        world: What is trained, where `init` is no camera world.
        tokenizer, depth: Their stages; steps=0 leaves one out. Depth is also left out where no clip's is known.
        clip: Latent frames per clip, the given first one included.
        batch: Clips per step and rank.
        pool: Clips per rank that are drawn from; `fresh` of them are made anew every `fresh_every` steps.
        own: Share of fresh clips that the model itself imagined, from `own_after` (a share of the run) on: it learns to
            go on from its own frames and its own memory. Others let the place grow with the true frames.
        given_depth: Share of clips whose first frame comes with its true depth, where it is known.
        one_step: Share of frames trained at flow time 1 (what a model that takes one step needs); the others draw
            logit-normal times with `shift` (arXiv 2511.00062, section 3.1).
        gap: Extra loss weight where the memory knows nothing.
    """

    data: Path
    out: Path
    init: Path | str = "nano-tabletop"
    checkpoint: Path | str | None = None
    frame_size: tuple[int, int] = (256, 320)
    rays: Literal["concat", "block"] = "concat"
    world: WorldConfig = field(default_factory=nano_rooms)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=3000))
    tokenizer: LoopConfig = field(default_factory=lambda: LoopConfig(steps=0))
    depth: LoopConfig = field(default_factory=lambda: LoopConfig(steps=0))
    clip: int = 12
    batch: int = 8
    pool: int = 96
    fresh: int = 8
    fresh_every: int = 8
    own: float = 0.5
    own_after: float = 0.3
    given_depth: float = 0.25
    one_step: float = 1.0
    shift: float = 5.0
    gap: float = 1.0
    split: str | None = "train"
    val_split: str | None = "val"

    @property
    def cache(self) -> Path:
        """Where arrays derived from the data are kept."""
        return self.out.parent / "cache"


def prepare(recipe: CameraRecipe) -> CameraRecipe:
    """Run what comes before the denoiser; the recipe comes back with an `init` that has it all.

    Raises:
        UserError: unknown or damaged `init`, no data, or clips shorter than the recipe's.
    """
    recipe.out.mkdir(parents=True, exist_ok=True)
    path = recipe.out / "start.safetensors"
    if path.is_file():
        start = load(path, dtype=torch.float32)
    elif str(recipe.init) in CAMERA_STARTS:
        start = load_camera_start(
            str(recipe.init), recipe.checkpoint, rays=recipe.rays, frame_size=recipe.frame_size, seed=recipe.loop.seed
        )
    elif recipe.checkpoint is not None:
        raise UserError(f"a checkpoint goes with a published network, and {str(recipe.init)!r} is none")
    else:
        start = load(recipe.init, dtype=torch.float32)
    if isinstance(start, CameraWorldModel):
        recipe = replace(recipe, world=start.cfg)
    else:
        torch.manual_seed(recipe.loop.seed)
        begun = CameraWorldModel(recipe.world)
        take_over(begun, start)
        start = begun
    if not path.is_file():
        save(start, path, about=start.metadata)
    data = load_camera_frames(recipe.data, recipe.world.frame_size, recipe.cache, recipe.split)
    longest = int(np.diff(data.offsets).max())
    needed = 1 + (recipe.clip - 1) * start.spec.frames_per_step
    if longest < needed:
        raise UserError(f"{recipe.data}: clips of {needed} frames are needed, but the longest has {longest}")
    if recipe.tokenizer.steps:
        out = recipe.out / "tokenizer"
        tuned = TokenizerRecipe(
            recipe.data, out, world=recipe.world, loop=recipe.tokenizer, batch=12, split=recipe.split, init=path,
            normalise=True,
        )  # fmt: skip
        launch(partial(_tokenizer_task, tuned), tuned.loop, out, {"tuned on": recipe.data.name})
        path = out / "model.safetensors"
    if recipe.depth.steps and recipe.world.camera and recipe.world.camera.depth and data.has_depth:
        out = recipe.out / "depth"
        stage = DepthRecipe(
            recipe.data, out, recipe.cache, path, recipe.depth, split=recipe.split, val_split=recipe.val_split
        )
        launch(partial(_depth_task, stage), stage.loop, out, {"depth of": recipe.data.name})
        path = out / "model.safetensors"
    return replace(recipe, init=path)


@torch.no_grad()
def take_over(world: CausalWorldModel, start: CausalWorldModel) -> None:
    """Give `world` the tokenizer of `start`. Latent channels that it has beyond those begin unused.

    Raises:
        UserError: the tokenizers differ in more than that.
    """
    given = start.tokenizer.state_dict()
    new = {}
    for name, tensor in world.tokenizer.state_dict().items():
        old = given.get(name)
        if old is not None and old.shape == tensor.shape:
            new[name] = old
            continue
        if (
            old is None
            or not name.startswith(("quant_conv.", "post_quant_conv."))
            or (any(a > b for a, b in zip(old.shape, tensor.shape, strict=True)))
        ):
            raise UserError(f"the tokenizer of {start.cfg.name!r} does not fit {world.cfg.name!r} ({name})")
        grown = tensor.clone() if name.startswith("quant_conv.") else torch.zeros_like(tensor)
        grown[tuple(slice(n) for n in old.shape)] = old
        new[name] = grown
    world.tokenizer.load_state_dict(new)
    known = len(start.latent_mean)
    world.latent_mean[:known] = start.latent_mean
    world.latent_std[:known] = start.latent_std


def _tokenizer_task(recipe: TokenizerRecipe, rank: int) -> TokenizerTask:
    return TokenizerTask(recipe)


def _depth_task(recipe: DepthRecipe, rank: int) -> DepthTask:
    return DepthTask(recipe)
