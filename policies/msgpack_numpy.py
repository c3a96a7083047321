"""msgpack with NumPy arrays, byte for byte as openpi's policy servers and clients write it, and read with suspicion.

    pack({"observation/state": np.zeros(7, np.float32), "prompt": "push the red block"}) -> bytes
    unpack(frame) -> {"actions": float32 [N, 7], ...}

On the wire an array is a map of the *byte-string* keys __ndarray__ (true), data (C order), dtype (as '<f4') and shape;
a NumPy scalar one of __npgeneric__, data and dtype. Source: openpi-client 0.1, itself after msgpack-numpy; unlike the
latter neither side ever falls back to pickle. `unpack` treats a frame as hostile: only numbers, booleans, text, bytes,
lists, maps and arrays of numbers, booleans or text come out of it, of bounded number and depth.
"""

from __future__ import annotations

import re
from typing import Any

import msgpack
import numpy as np
from numpy.typing import NDArray

from wfm_sim.errors import UserError

# Lists and maps longer than these, or more values in all, are no message of a policy. They bound what a small frame of
# empty maps can be blown up to in memory.
MAX_LIST, MAX_MAP, MAX_VALUES = 10_000, 1_000, 100_000
MAX_AXES = 8
_DTYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|U[1-9][0-9]{0,5})")


def pack(message: Any) -> bytes:
    """The message as one msgpack frame.

    Raises:
        UserError: it holds something that has no place in a message, such as an array of objects.
    """
    try:
        packed: bytes = msgpack.packb(message, default=_to_map)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"this message cannot be packed: {error}") from error
    return packed


def unpack(frame: bytes) -> Any:
    """The message in a frame; its arrays are writable copies in native byte order.

    Raises:
        UserError: not exactly one msgpack message, an array whose dtype, shape and data do not fit, a dtype other than
            numbers, booleans and text, an extension type, or more values than a policy's message can have.
    """
    if frame[:1] == b"\x80" and frame[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        raise UserError("the frame looks like a Python pickle, which is never loaded; expected msgpack")
    reader = _Reader()
    try:
        message = msgpack.unpackb(
            frame,
            object_hook=reader.map,
            list_hook=reader.list,
            ext_hook=_refuse_extension,
            max_array_len=MAX_LIST,
            max_map_len=MAX_MAP,
        )
    except UserError:
        raise
    except (ValueError, TypeError, OverflowError, MemoryError, msgpack.exceptions.UnpackException) as error:
        said = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"the frame of {len(frame)} bytes is not a msgpack message ({said})") from error
    reader.list([message])
    return message


def _to_map(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "VOc":
        raise TypeError(f"arrays of dtype {value.dtype} are not sent")
    if isinstance(value, np.ndarray):
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"a {type(value).__name__} is not sent")


class _Reader:
    """The hooks of one call of `unpack`, counting the values that it has let through."""

    def __init__(self) -> None:
        self._values = 0

    def list(self, items: list[Any]) -> list[Any]:
        self._count(len(items), items)
        return items

    def map(self, items: dict[Any, Any]) -> Any:
        self._count(len(items) + 1, items.values())
        if b"__ndarray__" in items:
            return _array(items)
        if b"__npgeneric__" in items:
            return _scalar(items)
        return items

    def _count(self, values: int, content: Any) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            raise UserError(f"the frame holds more than {MAX_VALUES} values")
        if any(isinstance(value, msgpack.Timestamp) for value in content):
            raise UserError("the frame holds a timestamp, which no policy message has")


def _refuse_extension(code: int, data: bytes) -> Any:
    raise UserError(f"the frame holds msgpack extension type {code}, which is never decoded")


def _dtype(items: dict[Any, Any]) -> np.dtype[Any]:
    name = items.get(b"dtype")
    if isinstance(name, bytes):
        name = name.decode("ascii", "replace")
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        what = "arrays of Python objects (pickles)" if isinstance(name, str) and "O" in name else f"dtype {name!r:.60}"
        raise UserError(f"the frame holds {what}; only numbers, booleans and text are decoded")
    return np.dtype(name)


def _array(items: dict[Any, Any]) -> NDArray[Any]:
    dtype, data, shape = _dtype(items), items.get(b"data"), items.get(b"shape")
    sizes_ok = isinstance(shape, list) and len(shape) <= MAX_AXES and all(type(n) is int and n >= 0 for n in shape)
    if not isinstance(shape, list) or not sizes_ok:
        raise UserError(f"an array's shape must be at most {MAX_AXES} sizes, not {shape!r:.80}")
    expected = dtype.itemsize
    for size in shape:
        expected *= size
    if not isinstance(data, bytes) or len(data) != expected:
        given = f"{len(data)} bytes" if isinstance(data, bytes) else f"a {type(data).__name__}"
        raise UserError(f"an array of shape {shape} and dtype {dtype.str} needs {expected} bytes, not {given}")
    if dtype.kind == "U" and (np.frombuffer(data, dtype.str[0] + "u4") > 0x10FFFF).any():
        raise UserError("an array of text holds code points that are no characters")
    return np.ndarray(shape, dtype, data).astype(dtype.newbyteorder("="))


def _scalar(items: dict[Any, Any]) -> Any:
    dtype, data = _dtype(items), items.get(b"data")
    if not isinstance(data, str if dtype.kind == "U" else (bool, int, float)):
        raise UserError(f"a scalar of dtype {dtype.str} cannot be a {type(data).__name__}")
    return dtype.type(data)
