"""TFRecord files of tf.train.Example messages, read without TensorFlow.

A record is: length uint64 | masked CRC32C of it | data | masked CRC32C of the data. An Example is a protocol buffer:
Example{1: Features{1: map<string, Feature>}}, Feature{1: bytes list, 2: float list, 3: int64 list}.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wfm_sim.errors import UserError

Feature = list[bytes] | NDArray[np.float32] | NDArray[np.int64]


def record_spans(path: str | Path) -> list[tuple[int, int]]:
    """(offset, length) of the data of every record. UserError when the file is cut off or no TFRecord."""
    path = Path(path)
    spans: list[tuple[int, int]] = []
    size = path.stat().st_size
    with path.open("rb") as file:
        position = 0
        while position < size:
            header = file.read(12)
            if len(header) < 12:
                raise UserError(f"{path}: cut off after {len(spans)} records")
            length, checksum = struct.unpack("<QI", header)
            if checksum != _masked_crc32c(header[:8]):
                raise UserError(f"{path}: not a TFRecord file, or broken after {len(spans)} records")
            if position + 16 + length > size:
                raise UserError(f"{path}: cut off after {len(spans)} records")
            spans.append((position + 12, length))
            position += 16 + length
            file.seek(position)
    return spans


def read_example(path: str | Path, offset: int, length: int) -> dict[str, Feature]:
    """The features of one record: bytes lists, float32 [N] or int64 [N]. UserError when it is no Example."""
    with Path(path).open("rb") as file:
        file.seek(offset)
        data = file.read(length)
    try:
        return dict(_entries(data))
    except (IndexError, KeyError, UnicodeDecodeError, ValueError, struct.error):
        raise UserError(f"{path}: the record at byte {offset} is no tf.train.Example") from None


def _entries(example: bytes) -> Iterator[tuple[str, Feature]]:
    for _, features in _fields(example):
        for _, entry in _fields(features):
            pair = dict(_fields(entry))
            yield pair[1].decode(), _feature(pair[2])


def _feature(message: bytes) -> Feature:
    kind, values = next(_fields(message), (1, b""))
    if kind == 1:
        return [value for _, value in _fields(values)]
    if kind == 2:  # packed: one run of little-endian float32
        return np.frombuffer(b"".join(value for _, value in _fields(values)), dtype="<f4")
    integers = []
    for _, packed in _fields(values):
        position = 0
        while position < len(packed):
            value, position = _varint(packed, position)
            integers.append(value - (1 << 64) if value >> 63 else value)
    return np.array(integers, dtype=np.int64)


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """(field number, payload) of a message; an unpacked varint is handed on still encoded."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        wire = key & 7
        start = position
        if wire == 0:
            _, position = _varint(message, position)
        elif wire == 1:
            position += 8
        elif wire == 2:
            length, start = _varint(message, position)
            position = start + length
        elif wire == 5:
            position += 4
        else:
            raise ValueError("unknown wire type")
        if position > len(message):
            raise ValueError("cut off")
        yield key >> 3, message[start:position]


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7


def _masked_crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)  # Castagnoli, reflected
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
