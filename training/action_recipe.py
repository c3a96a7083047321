"""What `wfm-sim train action` runs, and what it needs before its ranks start: data read once, frames encoded once."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from wfm_sim.data import open_dataset
from wfm_sim.errors import UserError, unknown
from wfm_sim.models.causal_world import CausalWorldModel, WorldConfig
from wfm_sim.models.checkpoint import load
from wfm_sim.models.presets import nano_tabletop
from wfm_sim.training.frames import Frames, load_frames
from wfm_sim.training.loop import LoopConfig, launch
from wfm_sim.training.object_probe import fit_probe
from wfm_sim.training.tokenizer import TokenizerRecipe, TokenizerTask


@dataclass(frozen=True)
class ActionRecipe:
    """What `wfm-sim train action` runs.

    Attributes:
        data, out: A data set and the run's folder.
        init: World model file whose tokenizer (and, if `init_net`, network) training begins with.
        clip: Frames per clip, the given first one included.
        batch: Clips per step and rank.
        one_step: Share of frames trained at time 1; the others draw logit-normal times with `shift`.
        replay: Share of a batch that comes from the pool of own frames; pool: its clips per rank; pool_age: the most
            steps they drift. A rollout is given up when the squared error round moved objects exceeds `astray` (an
            object that is missing has about 2): from there the truth would only teach to wipe out what is misplaced.
        prev_noise: Largest deviation of the noise added to the previous frame of true-predecessor clips.
        tokenizer_steps: Steps that the tokenizer is tuned on the data first (pictures unlike those it knows).
        moving, changed: Extra loss weight where the picture moves now, or differs from the anchor.
        objects: The same round known objects that move or are no longer where the anchor shows them: they are small,
            and what a rollout is judged by.
        presence, place: Weight of what a frozen probe (wfm_sim.training.object_probe) says of the same objects: how
            much of each is missing, and how far it is from its place, in latent cells.
        contact: Chance weight of clips in which a known object moves, relative to 1 for others.
    """

    data: Path
    out: Path
    init: Path | str
    world: WorldConfig = field(default_factory=nano_tabletop)
    loop: LoopConfig = field(default_factory=lambda: LoopConfig(steps=10_000))
    clip: int = 6
    batch: int = 12
    one_step: float = 0.8
    shift: float = 3.0
    replay: float = 0.0
    pool: int = 256
    pool_age: int = 24
    astray: float = 0.6
    prev_noise: float = 0.1
    moving: float = 4.0
    changed: float = 4.0
    objects: float = 16.0
    presence: float = 0.0
    place: float = 0.0
    contact: float = 3.0
    init_net: bool = False
    tokenizer_steps: int = 0
    split: str | None = "train"
    val_split: str | None = "val"
    hold_out: tuple[str, ...] = ()

    @property
    def asks_probe(self) -> bool:
        """Whether a probe of objects has a say in the loss."""
        return self.presence > 0 or self.place > 0


def probe_path(data: Frames) -> Path:
    """Where a data set's probe of objects is kept."""
    return data.folder / "probe.safetensors"


def encode_all(world: CausalWorldModel, data: Frames, bf16: bool = False) -> np.ndarray:
    """Normalised latents of every frame as float16 [N, C, h, w], memory-mapped; computed once per tokenizer."""
    digest = hashlib.sha256()
    for value in (*world.tokenizer.encoder.state_dict().values(), *world.tokenizer.quant_conv.state_dict().values()):
        digest.update(value.cpu().contiguous().numpy().tobytes())
    path = data.folder / f"latents-{digest.hexdigest()[:12]}.npy"
    if not path.is_file():
        shape = (len(data.frames), *world.cfg.latent_shape)
        temporary = path.with_suffix(".tmp.npy")
        out = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.float16, shape=shape)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            for i in track(range(0, len(data.frames), 256), description="encoding frames", transient=True):
                z = world.encode(np.array(data.frames[i : i + 256])[:, None])
                out[i : i + 256] = z[:, :, 0].float().cpu().numpy()
        out.flush()
        temporary.rename(path)
    return np.load(path, mmap_mode="r")


def prepare(recipe: ActionRecipe) -> ActionRecipe:
    """Read and encode the data once, before the ranks start; post-training takes its network's sizes from `init`.

    Raises:
        UserError: unknown or damaged `init`, no data, or an id to hold out that is not there.
    """
    start = load(recipe.init, dtype=torch.float32)
    taken = start.cfg if recipe.init_net else replace(recipe.world, tokenizer=start.cfg.tokenizer)
    # a memory of objects belongs to the pictures that it was trained on: `train objects` gives a new one afterwards
    recipe = replace(recipe, world=replace(taken, objects=None))
    if recipe.replay and recipe.one_step < 1:
        raise UserError("replay needs one_step=1")
    if recipe.hold_out:
        ids = open_dataset(recipe.data, recipe.split).ids
        for name in recipe.hold_out:
            if name not in ids:
                raise unknown("episode to hold out", name, ids)
    if recipe.tokenizer_steps:
        start = _tune_tokenizer(recipe)
        recipe = replace(recipe, init=recipe.out / "tokenizer" / "model.safetensors")
    data = load_frames(recipe.data, recipe.world.frame_size, recipe.out.parent / "cache", recipe.split, recipe.hold_out)
    longest = int(np.diff(data.offsets).max())
    if longest < recipe.clip:
        raise UserError(f"{recipe.data}: clips of {recipe.clip} frames, but the longest episode has {longest}")
    latents = encode_all(start, data, recipe.loop.bf16)
    if recipe.asks_probe and data.objects.shape[1]:
        fit_probe(latents, data, probe_path(data), bf16=recipe.loop.bf16)
    if recipe.val_split is not None:  # a data set without that split is validated on what it trains on
        with suppress(UserError):
            load_frames(recipe.data, recipe.world.frame_size, recipe.out.parent / "cache", recipe.val_split)
    return recipe


def _tune_tokenizer(recipe: ActionRecipe) -> CausalWorldModel:
    steps, out = recipe.tokenizer_steps, recipe.out / "tokenizer"
    loop = LoopConfig(
        steps=steps, lr=1e-3, weight_decay=0.0, decay=0.5, warmup=20, ema=0.98, bf16=recipe.loop.bf16, log_every=50,
        checkpoint_every=steps, sample_every=steps,
    )  # fmt: skip
    tuning = TokenizerRecipe(
        recipe.data,
        out,
        world=recipe.world,
        loop=loop,
        split=recipe.split,
        hold_out=recipe.hold_out,
        init=recipe.init,
    )
    launch(partial(_tokenizer_task, tuning), loop, out, {"tuned on": recipe.data.name, "steps": steps})
    return load(out / "model.safetensors", dtype=torch.float32)


def _tokenizer_task(recipe: TokenizerRecipe, rank: int) -> TokenizerTask:
    return TokenizerTask(recipe)
