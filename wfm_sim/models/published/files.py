"""Weights from other people's files: safetensors (one file or shards) and PyTorch's archives (.pt, .pth, TorchScript).

A file gives {name: StoredTensor}; tensors are then read one by one (loading.py), so that memory never holds more
than the model and one tensor. No pickle is run, see torch_archive.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wfm_sim.data.files import read_json
from wfm_sim.errors import UserError
from wfm_sim.models.published.stored_tensor import StoredTensor
from wfm_sim.models.published.torch_archive import read_archive

INDEX = ".safetensors.index.json"
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_LEGACY_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # PyTorch's magic number, as pickled before version 1.6


def dtype_name(dtype: torch.dtype) -> str:
    """What safetensors calls a dtype."""
    return next(name for name, known in _DTYPES.items() if known == dtype)


def read_index(path: Path) -> dict[str, StoredTensor]:
    """Name -> where it lies, of every tensor in a file, a sharded checkpoint's index, or a folder with one of either.

    Raises:
        UserError: absent, truncated, damaged, or of a kind that is not read; each says which.
    """
    if path.is_dir():
        path = _only_file(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.name.endswith(".index.json"):
        return _sharded(path)
    with path.open("rb") as file:
        head = file.read(64)
    if head[8:9] == b"{":  # before the others: a header of 128 bytes begins like a pickle
        return _safetensors(path)[0]
    if head[:4] == b"PK\x03\x04":
        return read_archive(path)
    if head[:1] == b"\x80":
        if _LEGACY_TORCH in head:
            raise UserError(
                f"{path}: PyTorch's format of before version 1.6, one pickle, which is never opened; "
                "load it where you trust it and torch.save its state_dict again"
            )
        raise UserError(f"{path}: a bare Python pickle, which is never opened; convert it to safetensors")
    if head.startswith(b"version https://git-lfs"):
        raise UserError(f"{path}: a Git LFS pointer; the file itself has not been downloaded")
    if head.lstrip()[:1] == b"<":
        raise UserError(f"{path}: a web page, not weights; was the download refused?")
    return _safetensors(path)[0]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file in memory; for small ones (statistics, text embeddings)."""
    return {name: stored.read() for name, stored in read_index(path).items()}


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, or of a sharded checkpoint's first shard."""
    if path.is_dir():
        path = _only_file(path)
    if path.name.endswith(".index.json"):
        path = path.parent / min(_weight_map(path).values())
    with path.open("rb") as file:
        if file.read(4) == b"PK\x03\x04":
            return {}
    return _safetensors(path)[1]


def _only_file(folder: Path) -> Path:
    """The index or the one safetensors file of a folder (diffusers' layout)."""
    indices = sorted(folder.glob(f"*{INDEX}"))
    files = indices or sorted(folder.glob("*.safetensors"))
    if len(files) != 1:
        said = ", ".join(f.name for f in files) or "none"
        raise UserError(f"{folder}: expected one .safetensors file or index in this folder, found {said}")
    return files[0]


def _weight_map(path: Path) -> dict[str, str]:
    weights = read_json(path).get("weight_map")
    if not isinstance(weights, dict) or not weights:
        raise UserError(f"{path}: not the index of a sharded checkpoint (no weight_map)")
    for shard in weights.values():
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise UserError(f"{path}: the index names {shard!r}, which is no file beside it")
    return weights


def _sharded(path: Path) -> dict[str, StoredTensor]:
    weights = _weight_map(path)
    absent = sorted({shard for shard in weights.values() if not (path.parent / shard).is_file()})
    if absent:
        raise UserError(f"{path}: {len(absent)} of its shards are missing: {', '.join(absent)}")
    shards = {shard: _safetensors(path.parent / shard)[0] for shard in sorted(set(weights.values()))}
    lost = [name for name, shard in weights.items() if name not in shards[shard]]
    if lost:
        raise UserError(f"{path}: {len(lost)} tensors are not in the shard that the index names, e.g. {lost[0]}")
    return {name: shards[shard][name] for name, shard in weights.items()}


def _safetensors(path: Path) -> tuple[dict[str, StoredTensor], dict[str, str]]:
    """A safetensors file: 8 bytes of header length, the header in JSON, then the raw tensors."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise UserError(f"{path}: neither PyTorch's nor safetensors, or truncated in its header ({size} bytes)")
        try:
            header = json.loads(file.read(length))
            metadata = header.pop("__metadata__", {})
            found = {name: _entry(path, 8 + length, spec) for name, spec in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: neither PyTorch's nor safetensors, or damaged in its header ({error})") from None
    for name, stored in found.items():
        end = stored.offset + stored.numel * stored.dtype.itemsize
        if end > size:
            raise UserError(f"{path}: truncated ({size} bytes; the tensor {name} ends at {end})")
    return found, metadata


def _entry(path: Path, base: int, spec: Mapping[str, Any]) -> StoredTensor:
    if spec["dtype"] not in _DTYPES:
        raise ValueError(f"dtype {spec['dtype']}")
    dtype, shape = _DTYPES[spec["dtype"]], tuple(map(int, spec["shape"]))
    begin, end = map(int, spec["data_offsets"])
    if min((begin, *shape)) < 0 or end - begin != prod(shape) * dtype.itemsize:
        raise ValueError(f"{end - begin} bytes for a tensor of shape {shape}")
    return StoredTensor(path, base + begin, dtype, shape)
