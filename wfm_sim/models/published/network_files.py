"""Networks in files of our own, and from stored tensors in general: streamed, strict, self-describing.

A network is built on the `meta` device, where it has shapes and no memory, and filled tensor by tensor.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wfm_sim.data.files import atomic_path, write_json
from wfm_sim.errors import UserError
from wfm_sim.models.published.files import INDEX, dtype_name
from wfm_sim.models.published.stored_tensor import StoredTensor

FORMAT = "wfm-sim network 1"
SHARD_BYTES = 5_000_000_000
_SHOWN = 40  # names of a list that are shown; of longer ones the middle is left out

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Source:
    """Where one tensor of a network comes from: stored, and how its shape or layout is made ours."""

    stored: StoredTensor
    convert: Callable[[Tensor], Tensor] | None = None

    def read(self) -> Tensor:
        value = self.stored.read()
        return value if self.convert is None else self.convert(value).contiguous()

    @property
    def shape(self) -> Shape:
        if self.convert is None:
            return self.stored.shape
        return tuple(self.convert(torch.empty(self.stored.shape, device="meta")).shape)


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """A network without memory for its tensors."""
    with torch.device("meta"):
        return build()


def parameter_count(build: Callable[[], nn.Module]) -> int:
    """How many parameters a network has (buffers are none), without building it in memory."""
    return sum(p.numel() for p in on_meta(build).parameters())


def fill(
    network: nn.Module,
    sources: Mapping[str, Source],
    *,
    unexpected: Mapping[str, Shape] | None = None,
    derived: Mapping[str, Tensor] | None = None,
    what: str,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
) -> nn.Module:
    """Give a network on `meta` its tensors, reading one at a time.

    Args:
        network: Built by `on_meta`.
        sources: By our names.
        unexpected: Names and shapes of what the file has beside them and nobody knows.
        derived: Buffers that follow from the configuration; taken from here where the file has none.
        what: The file and the network, for the message.
        device: Where it shall be.
        dtype: Of its floating-point parameters; None as stored. Buffers stay as stored.

    Raises:
        UserError: names every tensor that is missing, unexpected or of another shape.
    """
    derived = derived or {}
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    surplus = {**{k: v.shape for k, v in sources.items() if k not in expected}, **(unexpected or {})}
    missing = {name: shape for name, shape in expected.items() if name not in sources and name not in derived}
    other = {
        name: (sources[name].shape, shape)
        for name, shape in expected.items()
        if name in sources and sources[name].shape != shape
    }
    if missing or surplus or other:
        raise UserError(_report(what, missing, surplus, other))
    parameters = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    state = {}
    for name in expected:
        value = sources[name].read() if name in sources else derived[name]
        cast = dtype is not None and name in parameters and value.is_floating_point()
        state[name] = value.to(device=device, dtype=dtype if cast else value.dtype)
    network.load_state_dict(state, assign=True)
    left = [n for n, t in [*network.named_parameters(), *network.named_buffers()] if t.is_meta]
    assert not left, f"tensors that no file holds and nothing derives: {left}"
    return network.eval().requires_grad_(False)


def _report(what: str, missing: dict[str, Shape], unexpected: dict[str, Shape], other: dict[str, Any]) -> str:
    parts = []
    for kind, names in (("missing", missing), ("unexpected", unexpected)):
        if names:
            lines = [f"{name} {_text(shape)}" for name, shape in names.items()]
            parts.append(f"{len(lines)} {kind}: {_list(lines)}")
    if other:
        lines = [f"{name} {_text(got)} instead of {_text(shape)}" for name, (got, shape) in other.items()]
        parts.append(f"{len(lines)} of another shape: {_list(lines)}")
    return f"{what}: the tensors do not fit; " + "; ".join(parts)


def _text(shape: Shape) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


def _list(lines: list[str]) -> str:
    if len(lines) <= _SHOWN:
        return ", ".join(lines)
    half = _SHOWN // 2
    return ", ".join([*lines[:half], f"... {len(lines) - 2 * half} more ...", *lines[-half:]])


# ------------------------------------------------------------------------------------------------------------- saving


def save_network(
    network: nn.Module,
    path: Path,
    *,
    family: str,
    config: Mapping[str, Any],
    about: Mapping[str, Any] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> Path:
    """Save as self-describing safetensors.

    Args:
        network: Any network of `families.FAMILIES`.
        path: A .safetensors file.
        family: Its key in `families.FAMILIES`.
        config: What it is built from.
        about: Where it came from; anything that JSON can hold.
        shard_bytes: Above this size it is written in several files, `NAME-00001-of-00003.safetensors`, and an index.

    Returns:
        What is to be loaded: `path`, or the index.
    """
    if path.suffix != ".safetensors":
        raise UserError(f"{path}: networks are saved as .safetensors files")
    state = {name: value.detach() for name, value in network.state_dict().items()}
    metadata = {
        "format": FORMAT,
        "family": family,
        "config": json.dumps(dict(config)),
        "about": json.dumps(dict(about or {})),
    }
    shards = _shards(state, shard_bytes)
    if len(shards) == 1:
        write_safetensors(path, state, metadata)
        return path
    weight_map: dict[str, str] = {}
    for i, shard in enumerate(shards, start=1):
        file = f"{path.stem}-{i:05d}-of-{len(shards):05d}.safetensors"
        write_safetensors(path.with_name(file), {name: state[name] for name in shard}, metadata)
        weight_map |= dict.fromkeys(shard, file)
    index = path.with_name(path.stem + INDEX)
    total = sum(value.nbytes for value in state.values())
    write_json(index, {"metadata": {"total_size": total}, "weight_map": weight_map})
    return index


def _shards(state: Mapping[str, Tensor], limit: int) -> list[list[str]]:
    """Names in the order of the state, cut wherever the next tensor would be too much."""
    shards: list[list[str]] = [[]]
    size = 0
    for name, value in state.items():
        if shards[-1] and size + value.nbytes > limit:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += value.nbytes
    return shards


def write_safetensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """A safetensors file, tensor by tensor (the safetensors package would copy all of them first)."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for name, value in tensors.items():
        spec = {"dtype": dtype_name(value.dtype), "shape": list(value.shape), "data_offsets": [at, at + value.nbytes]}
        header[name] = spec
        at += value.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with atomic_path(path) as partial, partial.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for value in tensors.values():
            if value.numel():
                file.write(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
