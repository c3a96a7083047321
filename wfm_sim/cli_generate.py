"""`wfm-sim generate`: a clip from a published model, from text, an image or a video."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


def generate(
    name: Annotated[str, typer.Argument(help="A preset that takes text or frames; `wfm-sim models` lists them.")],
    out: Annotated[Path, typer.Option(help="The clip (.mp4), or image (.png) of a Text2Image model.")],
    checkpoint: Annotated[
        str | None, typer.Option(help="Its file, a folder with its repository, or 'random'. Default: the hub's cache.")
    ] = None,
    prompt: Annotated[str, typer.Option(help="What shall be seen; its own text encoder is looked for.")] = "",
    text_encoder: Annotated[Path | None, typer.Option(help="The encoder's folder. Default: the hub's cache.")] = None,
    embedding: Annotated[
        Path | None, typer.Option(help="The prompt's embedding instead: .npy, .pt, .safetensors")
    ] = None,
    begin: Annotated[
        Path | None, typer.Option(help="An image, or a video whose last frames the clip begins with.")
    ] = None,
    frames: Annotated[int | None, typer.Option(help="Of a clip; default: as published.")] = None,
    size: Annotated[str | None, typer.Option(help="HEIGHTxWIDTH in pixels; default: as published.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="How strongly the text guides.")] = None,
    chunks: Annotated[int, typer.Option(min=1, help="Clips that continue each other.")] = 1,
    temperature: Annotated[float | None, typer.Option(help="Of token models (1 by default).")] = None,
    top_p: Annotated[float | None, typer.Option(help="Of token models (default 0.8).")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same clip.")] = 0,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, ...; default: a GPU where there is one.")] = None,
) -> None:
    """Make a clip with a published Text2World, Video2World, Text2Image or token model.

    The weights are yours to fetch. `--checkpoint random` tries everything but the weights.
    """
    import torch

    from wfm_sim.models.generation import generate as one_clip
    from wfm_sim.models.generators import TOKEN_MODELS, is_random, load_generator
    from wfm_sim.models.rollout import long_rollout
    from wfm_sim.progress import bar

    check_output(out, name)
    note = "; random weights: it shows nothing" if is_random(checkpoint) else ""
    wanted: dict[str, Any] = {"frames": frames, "frame_size": parse_size(size), "steps": steps, "guidance": guidance}
    sampled = {"temperature": temperature, "top_p": top_p}
    refuse(name, {k: v for k, v in {**wanted, "frames": None}.items() if name in TOKEN_MODELS})
    refuse(name, {k: v for k, v in sampled.items() if name not in TOKEN_MODELS})
    if name in TOKEN_MODELS:
        context = None
        if TOKEN_MODELS[name]:
            context = _context(name, prompt, text_encoder, embedding, device, is_random(checkpoint))
        clip = _from_tokens(name, checkpoint, device, begin, context, frames or chunks * 33, seed, temperature, top_p)
        write(out, clip, 24.0)
        print(f"{len(clip)} frames of {clip.shape[1]}x{clip.shape[2]} in {out}{note}")
        return
    world = load_generator(name, checkpoint, device=device, **wanted)
    given = None
    if begin is not None:
        given = first_frames(begin, world.settings.frame_size, world.settings.given_frames)
    context = _context(name, prompt, text_encoder, embedding, device, is_random(checkpoint))
    options: dict[str, Any] = {"seeds": [seed], "given": given, "context": context}
    with torch.inference_mode(), bar("denoising") as progress:
        if chunks == 1:
            clip = one_clip(world, progress=progress, **options)[0]
        else:
            clip = long_rollout(world, chunks, progress=progress, **options)[0]
    write(out, clip, world.settings.fps)
    print(f"{len(clip)} frames of {clip.shape[1]}x{clip.shape[2]} in {out}{note}")


def _from_tokens(
    name: str,
    checkpoint: str | None,
    device: str | None,
    begin: Path | None,
    context: Tensor | None,
    total: int,
    seed: int,
    temperature: float | None,
    top_p: float | None,
) -> NDArray[np.uint8]:
    """uint8 [total, H, W, 3] of an autoregressive model, window by window."""
    from wfm_sim.errors import UserError
    from wfm_sim.models.generators import DV16, load_parts
    from wfm_sim.models.token_sampling import Sampling
    from wfm_sim.models.video_tokens import generate_long_video
    from wfm_sim.progress import bar

    if begin is None:
        raise UserError(f"{name!r} continues a picture or a video: give --begin")
    sampling = Sampling(1.0 if temperature is None else temperature, top_p=0.8 if top_p is None else top_p)
    parts = load_parts(name, DV16, checkpoint, device=device)
    _, h, w = parts.net.cfg.latent_shape
    unit = parts.tokenizer.spatial_compression
    first = first_frames(begin, (h * unit, w * unit), 9)
    if context is not None:
        context = context.to(parts.net.device)
    with bar("frames") as progress:
        return generate_long_video(
            parts.net,
            parts.tokenizer,
            first,
            total,
            sampling=sampling,
            seeds=[seed],
            context=context,
            progress=progress,
        )[0]


def refuse(name: str, options: dict[str, Any]) -> None:
    """UserError if one of the options, which this model has not, was given."""
    from wfm_sim.errors import UserError

    given = [option for option, value in options.items() if value is not None]
    if given:
        raise UserError(f"{name!r} has no setting {given[0].replace('_', '-')!r}")


def _context(
    name: str, prompt: str, encoder: Path | None, embedding: Path | None, device: str | None, random: bool
) -> Tensor | None:
    """The text, [1, K, width]."""
    import torch

    from wfm_sim.errors import UserError
    from wfm_sim.models import text
    from wfm_sim.models.generators import load_text, text_width

    if embedding is not None:
        if prompt:
            raise UserError("give --prompt or --embedding, not both")
        found = text.precomputed(embedding)
        if found.width != text_width(name):
            raise UserError(f"{embedding}: {found.width} numbers per token, {name!r} takes {text_width(name)}")
        return found("")
    if random and encoder is None:
        return torch.zeros(1, 1, text_width(name))
    return load_text(name, prompt, encoder=encoder, device=device or ("cuda" if torch.cuda.is_available() else "cpu"))


def parse_size(size: str | None) -> tuple[int, int] | None:
    """'480x640' -> (480, 640). UserError for anything else."""
    from wfm_sim.errors import UserError

    if size is None:
        return None
    height, _, width = size.partition("x")
    if not (height.isdigit() and width.isdigit()):
        raise UserError(f"size {size!r}: expected HEIGHTxWIDTH in pixels, such as 480x640")
    return int(height), int(width)


def check_output(out: Path, name: str) -> None:
    """UserError unless the file's ending is what the model makes: told before the work, not after."""
    from wfm_sim.errors import UserError

    wanted = ".png" if name.endswith("text2image") else ".mp4"
    if out.suffix.lower() != wanted:
        raise UserError(f"{out}: {name!r} makes a {wanted} file; name it so")


def first_frames(path: Path, size: tuple[int, int], count: int) -> NDArray[np.uint8]:
    """uint8 [1, T, H, W, 3] of an image (T = 1) or of the last `count` frames of a video, scaled to cover the size and
    cut to its middle.

    Raises:
        UserError: no such file, not a picture, or a model that begins with none.
    """
    import cv2
    import numpy as np

    from wfm_sim.data.video import read_video
    from wfm_sim.errors import UserError

    if count == 0:
        raise UserError("this model begins with no frames: leave --begin out")
    video = read_video(path)
    video = video[-count:] if len(video) >= count else video[-1:]
    height, width = size
    scale = max(height / video.shape[1], width / video.shape[2])
    inner = (max(width, round(video.shape[2] * scale)), max(height, round(video.shape[1] * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    scaled = np.stack([cv2.resize(frame, inner, interpolation=how) for frame in video])
    top, left = (scaled.shape[1] - height) // 2, (scaled.shape[2] - width) // 2
    return scaled[None, :, top : top + height, left : left + width]


def write(out: Path, clip: NDArray[np.uint8], fps: float) -> None:
    """The clip, uint8 [T, H, W, 3], as .mp4, or its first frame as .png."""
    import cv2

    from wfm_sim.data.files import atomic_path
    from wfm_sim.data.video import write_video

    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix.lower() == ".mp4":
        write_video(out, clip, fps)
        return
    with atomic_path(out) as partial:
        _, data = cv2.imencode(".png", cv2.cvtColor(clip[0], cv2.COLOR_RGB2BGR))
        partial.write_bytes(data.tobytes())
