"""PyTorch's zip archives, saved state dicts (.pt) and TorchScript (.jit), read for their tensors only.

Both hold one pickle, `data.pkl`, beside one uncompressed record of raw bytes per storage. The pickle is read by an
unpickler that knows a dozen names: plain containers, dtypes, storages, and the functions that rebuild a tensor, for
which it puts a note of where the tensor lies in the file. Nothing of torch is called and no code of the archive is
imported; classes of a TorchScript archive become inert holders of attributes, whose paths are the names of a state
dict. (torch.load(weights_only=True) refuses TorchScript, and maps whole files, so that a model and the pages it was
copied from are in memory together.)
"""

from __future__ import annotations

import collections
import io
import pickle
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO, Any

import torch

from wfm_sim.errors import UserError
from wfm_sim.models.published.stored_tensor import StoredTensor, refuse_state

_LOCAL_HEADER = 30  # bytes of a zip record's own header before its name


@dataclass(frozen=True)
class _Storage:
    """A storage of the archive: where its bytes are; a dtype where the pickle gives one with it."""

    path: Path
    offset: int
    size: int
    checksum: int
    dtype: torch.dtype | None

    __setstate__ = refuse_state


class _Inert:
    """Stands for an object of a TorchScript class, or of one that is of no interest: attributes, no behaviour."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update({str(k): v for k, v in state.items()})
        else:
            self.__dict__["state"] = state


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    stride, step = [], 1
    for size in reversed(shape):
        stride.append(step)
        step *= max(size, 1)
    return tuple(reversed(stride))


def _tensor(
    storage: _Storage, start: int, shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype
) -> StoredTensor:
    """Where a tensor of these elements lies; ValueError where it would reach beyond its storage."""
    shape, stride = tuple(map(int, shape)), tuple(map(int, stride))
    if len(shape) != len(stride) or min((start, *shape, *stride)) < 0:
        raise ValueError(f"a tensor of shape {shape} and strides {stride}")
    last = 0 if 0 in shape else 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
    if (start + last) * dtype.itemsize > storage.size:
        raise ValueError(f"a tensor that reaches beyond its storage (shape {shape}, {storage.size} bytes)")
    whole = start == 0 and last * dtype.itemsize == storage.size and last > 0
    return StoredTensor(
        storage.path,
        storage.offset + start * dtype.itemsize,
        dtype,
        shape,
        None if stride == _contiguous(shape) or prod(shape) <= 1 else stride,
        storage.checksum if whole else None,
    )


def _rebuild_v2(storage: _Storage, start: int, shape: Any, stride: Any, *_: Any) -> StoredTensor:
    if storage.dtype is None:
        raise ValueError("an untyped storage without a dtype")
    return _tensor(storage, start, shape, stride, storage.dtype)


def _rebuild_v3(
    storage: _Storage, start: int, shape: Any, stride: Any, _grad: Any, _hooks: Any, dtype: torch.dtype, *_: Any
) -> StoredTensor:
    return _tensor(storage, start, shape, stride, dtype)


def _first(value: Any, *_: Any) -> Any:
    return value


# Everything that a checkpoint's pickle may name, and what stands in for it.
_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): tuple,
    ("torch", "device"): _Inert,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_v2,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_v3,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("torch.storage", "UntypedStorage"): None,
    # Transformer Engine keeps its (unused) `_extra_state` in a BytesIO; the other two are how bytes are pickled.
    ("_io", "BytesIO"): _Inert,
    ("_codecs", "encode"): _Inert,
    ("__builtin__", "bytes"): _Inert,
    ("torch.jit._pickle", "restore_type_tag"): _first,
    **{("torch.jit._pickle", f"build_{kind}list"): _first for kind in ("int", "tensor", "double", "bool")},
}
_STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


# What reading a damaged archive may raise, besides zipfile.BadZipFile (RecursionError and others are RuntimeErrors).
_DAMAGE = (
    pickle.UnpicklingError,
    struct.error,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OverflowError,
    OSError,
    RuntimeError,
)


class _ForbiddenError(Exception):
    """The pickle names something that no checkpoint of weights needs."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes], storage: Callable[[str, torch.dtype | None], _Storage]) -> None:
        super().__init__(file)
        self.storage = storage

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _KNOWN:
            return _KNOWN[module, name]
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if module.startswith("__torch__"):
            return _Inert
        raise _ForbiddenError(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, *_ = pid
        if kind != "storage":
            raise ValueError(f"a persistent id of kind {kind!r}")
        return self.storage(str(key), dtype)


def _unpickle(data: bytes, storage: Callable[[str, torch.dtype | None], _Storage]) -> Any:
    for opcode, argument, _ in pickletools.genops(data):  # also finds arguments that are not all there
        if opcode.name in ("PUT", "LONG_BINPUT") and (argument or 0) > len(data):
            raise ValueError("a memo larger than the pickle")  # Python would allocate it
    return _Unpickler(io.BytesIO(data), storage).load()


def _records(path: Path, archive: zipfile.ZipFile, file: IO[bytes], root: str) -> dict[str, _Storage]:
    """Key -> storage, for every record of raw bytes."""
    found = {}
    for info in archive.infolist():
        folder, _, key = info.filename.removeprefix(root).rpartition("/")
        if folder != "data":
            continue
        if info.compress_type != zipfile.ZIP_STORED:
            raise UserError(f"{path}: its record {info.filename} is compressed, which PyTorch never does")
        file.seek(info.header_offset + 26)
        name, extra = struct.unpack("<HH", file.read(4))  # the local header's own, which pads for alignment
        start = info.header_offset + _LOCAL_HEADER + name + extra
        found[key] = _Storage(path, start, info.file_size, info.CRC, None)
    return found


def read_archive(path: Path) -> dict[str, StoredTensor]:
    """Name -> where it lies, of every tensor of a .pt or .jit zip archive; nested containers give dotted names.

    Raises:
        UserError: truncated or damaged, not PyTorch's, or with a pickle that names anything but tensors and plain
            containers (which is then not run).
    """
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            inside = [n for n in archive.namelist() if n == "data.pkl" or n.endswith("/data.pkl")]
            if len(inside) != 1:
                raise UserError(f"{path}: a zip archive, but not one of PyTorch's (no data.pkl in it)")
            root = inside[0].removesuffix("data.pkl")
            if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
                raise UserError(f"{path}: written on a big-endian machine, which is not supported")
            storages = _records(path, archive, file, root)

            def storage(key: str, dtype: torch.dtype | None) -> _Storage:
                s = storages[key]
                return _Storage(s.path, s.offset, s.size, s.checksum, dtype)

            content = _unpickle(archive.read(inside[0]), storage)
    except UserError:
        raise
    except zipfile.BadZipFile as error:
        raise UserError(f"{path}: a truncated or damaged PyTorch archive ({error})") from None
    except _ForbiddenError as error:
        raise UserError(
            f"{path}: its pickle asks for {error}, which no weights need; nothing of it was run. "
            "If you trust the file, save its state_dict() alone"
        ) from None
    except _DAMAGE as error:
        raise UserError(f"{path}: a damaged PyTorch archive ({type(error).__name__}: {error})") from None
    if isinstance(content, StoredTensor):
        return {"tensor": content}
    return dict(_named(content, "", ()))


def _named(value: Any, prefix: str, above: tuple[int, ...]) -> Iterator[tuple[str, StoredTensor]]:
    """Walk containers and inert objects; `above` are the ids on the way, since a pickle can hold itself."""
    if isinstance(value, StoredTensor):
        yield prefix, value
        return
    children: Any = ()
    if isinstance(value, _Inert):
        children = vars(value).items()
    elif isinstance(value, dict):
        children = value.items()
    elif isinstance(value, (list, tuple)):
        children = enumerate(value)
    if id(value) in above:
        return
    for key, child in children:
        yield from _named(child, f"{prefix}.{key}" if prefix else str(key), (*above, id(value)))
