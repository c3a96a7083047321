"""Loading networks by preset: from files as they were published, or from our own self-describing ones."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wfm_sim.errors import UserError
from wfm_sim.models.published.families import family, family_of
from wfm_sim.models.published.files import read_index, read_metadata, read_tensors
from wfm_sim.models.published.hub import find_file
from wfm_sim.models.published.network_files import FORMAT, Source, fill, on_meta
from wfm_sim.models.published.registry import Preset, preset
from wfm_sim.models.published.stored_tensor import StoredTensor


def load_preset(
    name: str,
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """The network of a preset with published weights.

    Args:
        name: Such as 'predict2.5-2b-action'.
        checkpoint: A file (or folder) of one of the published layouts, or written by `save_network`; a folder with the
            published repository; or None for the local hub cache.
        device: Where it shall be.
        dtype: Of its parameters; None as stored.

    Raises:
        UserError: no such preset; no such file (it names the file and where it was looked for); a damaged file; one of
            another family, or with missing, unexpected or mis-shaped tensors (it lists them).
    """
    kind = preset(name)
    return load_files(kind.family, kind.config(), find_checkpoint(kind, checkpoint), device=device, dtype=dtype)


def find_checkpoint(kind: Preset, checkpoint: str | os.PathLike[str] | None = None) -> list[Path]:
    """The file, or files, that together hold a preset's network.

    Raises:
        UserError: not there; names what is expected and where it was looked for.
    """
    given = None if checkpoint is None else Path(checkpoint)
    if given is not None and given.is_dir():
        part = "transformer" if kind.family == "dit" else "vae"  # of a pipeline in diffusers' layout
        for folder in (given, given / part):
            if any(folder.glob("*.safetensors")):
                return [folder]
    elif given is not None and given.is_file():
        parts = [given.with_name(Path(name).name) for name in kind.files]
        return parts if given in parts and all(p.is_file() for p in parts) else [given]
    if not kind.repository and given is None:
        raise UserError("no weights of this network were published; give a checkpoint")
    first, *rest = kind.files
    found = find_file(kind.repository, [first, *kind.other_names], given)
    if found.name != Path(first).name:
        return [found]
    return [found, *(find_file(kind.repository, [file], given) for file in rest)]


def load_files(
    family_name: str,
    config: Any,
    files: Sequence[Path],
    *,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """The network of a family and configuration from published files, or from one of ours.

    Raises:
        UserError: as `load_preset`.
    """
    kind = family(family_name)
    stored: dict[str, StoredTensor] = {}
    for file in files:
        metadata = read_metadata(file)
        if metadata.get("format") == FORMAT:
            _check_ours(file, metadata, family_name, config)
            sources = {name: Source(tensor) for name, tensor in read_index(file).items()}
            break
        for name, tensor in read_index(file).items():
            stored.setdefault(name, tensor)
    else:
        seen = family_of(stored)
        if seen not in (None, family_name):
            raise UserError(f"{files[0]}: the weights of {family(seen or '').title}, where {kind.title} is expected")
        sources = kind.rename(stored, config)
    what = " and ".join(map(str, files))
    network = on_meta(lambda: kind.build(config))
    if not set(network.state_dict()) & set(sources):
        raise UserError(f"{what}: not the weights of {kind.title}: none of its {len(sources)} tensors has a known name")
    return fill(network, sources, derived=kind.derived(config), what=what, device=device, dtype=dtype)


def _check_ours(file: Path, metadata: dict[str, str], family_name: str, config: Any) -> None:
    if metadata.get("family") != family_name:
        raise UserError(f"{file}: a network of the family {metadata.get('family')!r}, expected {family_name!r}")
    got = family(family_name).read_config(json.loads(metadata["config"])).to_dict()
    differ = [
        f"{key} {got[key]!r} instead of {value!r}" for key, value in config.to_dict().items() if got[key] != value
    ]
    if differ:
        raise UserError(f"{file}: of another configuration: {', '.join(differ)}")


def random_preset(name: str, *, seed: int = 0, device: str = "cpu", dtype: torch.dtype | None = None) -> nn.Module:
    """A preset's network with random weights, for plumbing and measurements of speed.

    Matrices keep the scale of what they are given; normalisations start at one, biases at zero.
    """
    kind = preset(name)
    config = kind.config()
    network = on_meta(lambda: family(kind.family).build(config)).to(dtype).to_empty(device=device)
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for key, value in network.named_parameters():
            if value.ndim > 1:
                value.normal_(std=(value[0].numel()) ** -0.5, generator=generator)
            else:
                value.fill_(0.0 if key.endswith("bias") else 1.0)
        for key, buffer in family(kind.family).derived(config).items():
            network.get_buffer(key).copy_(buffer)
    return network.eval().requires_grad_(False)


def latent_statistics(path: Path, channels: int) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a tokenizer's latents, float32 [C, T] each, from Predict1's mean_std.pt.

    Raises:
        UserError: not such a file.
    """
    found = list(read_tensors(path).values())
    if len(found) != 2 or any(v.numel() % channels or v.shape != found[0].shape for v in found):
        raise UserError(f"{path}: expected a mean and a deviation of {channels} channels, got {len(found)} tensors")
    mean, deviation = (value.float().view(channels, -1) for value in found)
    return mean, deviation


def load_network(path: str | os.PathLike[str], *, device: str = "cpu", dtype: torch.dtype | None = None) -> nn.Module:
    """A network that `save_network` wrote: its file says what it is.

    Raises:
        UserError: absent or damaged, or not one of ours.
    """
    file = Path(path)
    index = read_index(file)
    metadata = read_metadata(file)
    if metadata.get("format") != FORMAT:
        raise UserError(f"{file}: does not say what network it holds; load it with its preset (`wfm-sim models`)")
    kind = family(metadata["family"])
    config = kind.read_config(json.loads(metadata["config"]))
    sources = {name: Source(tensor) for name, tensor in index.items()}
    network = on_meta(lambda: kind.build(config))
    return fill(network, sources, what=str(file), device=device, dtype=dtype)
