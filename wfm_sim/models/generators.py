"""The published networks with all that running them takes: tokenizer, latent statistics, sampler settings, text.

    world = load_generator("predict2.5-2b", checkpoint="~/weights/Cosmos-Predict2.5-2B")
    clips = image2world(world, images, load_text("predict2.5-2b", "a robot stacks cups"), seeds=[0])

Nothing is downloaded; every part is looked for beside the checkpoint, then in the local hub cache.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wfm_sim.errors import UserError, unknown
from wfm_sim.models import text
from wfm_sim.models.checkpoint import fast_dtype
from wfm_sim.models.generation import WorldGenerator
from wfm_sim.models.published.hub import find_file
from wfm_sim.models.published.loading import latent_statistics, load_preset, random_preset
from wfm_sim.models.published.registry import PRESETS, preset
from wfm_sim.models.sampling import DistilledSettings, Predict1Settings, Predict2Settings, Predict25Settings, Settings

RANDOM = "random"
CV8 = "cosmos-tokenize1-cv8x8x8-720p"
DV16 = "cosmos-tokenize1-dv8x16x16-720p"
WAN = "wan2.1-vae"


@dataclass(frozen=True)
class Parts:
    """A network and its tokenizer, ready to run; statistics of the latents, [C] or [C, T], where they are not in it."""

    net: Any
    tokenizer: Any
    mean: Tensor | None = None
    std: Tensor | None = None


def _image_settings() -> Predict2Settings:
    return Predict2Settings(frames=1, frame_size=(768, 1024), given_frames=0)


def _settings(name: str) -> Callable[[], Settings] | None:
    """How a single-view preset that takes text and frames is sampled; None for another kind."""
    if PRESETS[name].family != "dit" or PRESETS[name].inputs not in ("text", "text, first frames"):
        return None
    if name.startswith("predict1"):
        return Predict1Settings
    if name.endswith("text2image"):
        return _image_settings
    if name.startswith("predict2-"):
        return Predict2Settings
    return DistilledSettings if name.endswith("distilled") else Predict25Settings


GENERATORS: dict[str, Callable[[], Settings]] = {n: made for n in PRESETS if (made := _settings(n)) is not None}

# Autoregressive video models -> whether they take text.
TOKEN_MODELS: dict[str, bool] = {
    n: bool(kind.text)
    for n, kind in PRESETS.items()
    if kind.family == "autoregressive" and "first frames" in kind.inputs
}


def load_parts(
    name: str,
    tokenizer: str,
    checkpoint: str | os.PathLike[str] | None,
    *,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    seed: int = 0,
) -> Parts:
    """A preset's network, and the tokenizer of that name.

    Args:
        checkpoint: The network's file; or a folder with the published repository, tokenizer included; None for the
            local hub cache; "random" for random weights.
        device: Where they run; None for a GPU where there is one.
        dtype: Of the network; None for what is fast there. On a CPU the tokenizer stays float32.
        seed: Of random weights.

    Raises:
        UserError: a file that is absent (it names the file and every place it was looked for) or cannot be used.
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    dtype = fast_dtype(device) if dtype is None else dtype
    where: Any = {"device": device, "dtype": dtype}
    beside_it: Any = {"device": device, "dtype": torch.float32 if device == "cpu" else dtype}
    mean = std = None
    if is_random(checkpoint):
        net, tok = random_preset(name, seed=seed, **where), random_preset(tokenizer, seed=seed, **beside_it)
    else:
        net = load_preset(name, None if checkpoint is None else Path(checkpoint).expanduser(), **where)
        tok = load_preset(tokenizer, beside(checkpoint), **beside_it)
        if tokenizer == CV8:
            found = find_file(preset(CV8).repository, ["mean_std.pt"], beside(checkpoint))
            mean, std = latent_statistics(found, preset(CV8).config().latent_channels)
    for part in (net, tok):
        part.eval().requires_grad_(False)
    return Parts(net, tok, mean, std)


def load_generator(
    name: str,
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    seed: int = 0,
    **settings: Any,
) -> WorldGenerator:
    """A published Text2World, Video2World or Text2Image model for `wfm_sim.models.generation` and `.rollout`.

    Args:
        name: One of `GENERATORS`.
        checkpoint, device, dtype, seed: As for `load_parts`.
        settings: Fields of its settings (frames, frame_size, steps, guidance ...), where not the published ones.

    Raises:
        UserError: unknown name, a setting that it has not, or as `load_parts`.
    """
    if name not in GENERATORS:
        raise unknown("Text2World or Video2World preset", name, GENERATORS)
    chosen = with_settings(GENERATORS[name](), name, settings)
    parts = load_parts(
        name, CV8 if name.startswith("predict1") else WAN, checkpoint, device=device, dtype=dtype, seed=seed
    )
    unit = parts.tokenizer.spatial_compression * parts.net.cfg.patch
    check_size(chosen.frame_size, unit)
    world = WorldGenerator(parts.net, parts.tokenizer, chosen, parts.mean, parts.std)
    world.latent_frames(chosen.frames)
    return world


def load_text(name: str, prompt: str, *, encoder: Path | None = None, device: str = "cpu") -> Tensor:
    """A prompt as a preset takes it, [1, 512, width], by its own text encoder from a folder or the local hub cache.

    Raises:
        UserError: transformers is not installed, or the encoder's files are not there.
    """
    kind = preset(name)
    if kind.text == "t5":
        return text.load_t5(encoder, device=device)(prompt)
    if kind.text == "reason1":
        return text.load_reason1(encoder, device=device)(prompt)
    raise UserError(f"{name!r} takes no text")


def text_width(name: str) -> int:
    """Numbers per token of the text that a preset takes."""
    cfg = preset(name).config()
    if PRESETS[name].family == "autoregressive":
        return int(cfg.context_dim)
    return int(cfg.context_projection or cfg.context_channels)


def with_settings(chosen: Any, name: str, changes: dict[str, Any]) -> Any:
    """Settings with those of `changes` that are not None. UserError for one that they have not."""
    wanted = {key: value for key, value in changes.items() if value is not None}
    for key in wanted:
        if not hasattr(chosen, key):
            raise UserError(f"{name!r} has no setting {key!r}; it has {', '.join(vars(chosen))}")
    return replace(chosen, **wanted)


def check_size(size: tuple[int, int], unit: int) -> None:
    """UserError unless height and width are multiples of `unit` pixels, a token's."""
    if min(size) < 1 or size[0] % unit or size[1] % unit:
        raise UserError(f"frames of {size[0]}x{size[1]}: height and width must be multiples of {unit}")


def is_random(checkpoint: str | os.PathLike[str] | None) -> bool:
    """Whether random weights were asked for."""
    return checkpoint is not None and os.fspath(checkpoint) == RANDOM


def beside(checkpoint: str | os.PathLike[str] | None) -> Path | None:
    """The folder in which the other parts of a published model are looked for; None for the hub cache."""
    if checkpoint is None:
        return None
    path = Path(checkpoint).expanduser()
    return path.parent if path.is_file() else path
