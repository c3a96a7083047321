"""The codec: byte for byte openpi's, and nothing but plain data out of hostile frames."""

import pickle
from typing import Any

import msgpack
import numpy as np
import pytest

from wfm_sim.errors import UserError
from wfm_sim.policies.msgpack_numpy import MAX_VALUES, pack, unpack

MESSAGE = {
    "observation/image": np.arange(24, dtype=np.uint8).reshape(2, 4, 3),
    "observation/state": np.linspace(0, 1, 7, dtype=np.float32),
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "big-endian": np.arange(3, dtype=">i4"),
    "empty": np.zeros((0, 7), np.float32),
    "scalar": np.float32(0.25),
    "python-like": np.float64(0.1),
    "flag": np.bool_(True),
    "words": np.array(["push", "the block"]),
    "prompt": "push the red block into the zone",
    "nested": {"list": [1, 2.5, None, True, "x", b"raw"], "map": {"deep": np.int64(-3)}},
}


def array(**changes: Any) -> bytes:
    fields = {"__ndarray__": True, "data": b"\0" * 8, "dtype": "<f4", "shape": [2], **changes}
    return msgpack.packb({key.encode(): value for key, value in fields.items()})


def same(a: Any, b: Any) -> None:
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            same(a[key], b[key])
    elif isinstance(a, np.ndarray):
        assert isinstance(b, np.ndarray) and b.dtype.isnative and b.dtype == a.dtype.newbyteorder("=")
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b


def test_round_trip() -> None:
    read = unpack(pack(MESSAGE))
    same(MESSAGE, read)
    read["observation/state"][0] = 5.0  # a copy, not a view of the frame


def test_bytes_are_openpis() -> None:
    openpi = pytest.importorskip("openpi_client.msgpack_numpy", reason="openpi-client is not installed: make setup")
    assert pack(MESSAGE) == openpi.packb(MESSAGE)
    same(openpi.unpackb(pack(MESSAGE)), unpack(openpi.packb(MESSAGE)))


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (b"", "not a msgpack message"),
        (b"\xc1", "not a msgpack message"),
        (b"hello there", "not a msgpack message"),
        (pack({"a": 1}) + b"\0", "not a msgpack message"),
        (pack(MESSAGE)[:-3], "not a msgpack message"),
        (b"\xa2\xff\xff", "not a msgpack message"),
        (b"\x91" * 5000, "not a msgpack message"),
        (b"\xdd\xff\xff\xff\xff", "not a msgpack message"),
        (b"\x81\x01\x02", "not a msgpack message"),
        (pickle.dumps({"actions": [1.0]}), "looks like a Python pickle, which is never loaded"),
        (msgpack.packb(msgpack.ExtType(5, b"x")), "extension type 5"),
        (msgpack.packb(msgpack.Timestamp(0)), "timestamp"),
        (msgpack.packb([msgpack.Timestamp(0)]), "timestamp"),
        (msgpack.packb([[{}] * 9999] * 11), f"more than {MAX_VALUES} values"),
        (array(dtype="|O"), "arrays of Python objects (pickles)"),
        (array(dtype="|V4"), "'|V4'"),
        (array(dtype="<c8"), "'<c8'"),
        (array(dtype="f4,f4"), "'f4,f4'"),
        (array(dtype="<M8[s]"), "'<M8[s]'"),
        (array(dtype="<U0", data=b"", shape=[2**50]), "'<U0'"),
        (array(dtype=7), "dtype 7"),
        (array(shape=[3]), "needs 12 bytes, not 8 bytes"),
        (array(shape=[-2]), "shape must be"),
        (array(shape=[2.0]), "shape must be"),
        (array(shape=2), "shape must be"),
        (array(shape=[1] * 9), "shape must be"),
        (array(shape=[0, 2**62], data=b""), "not a msgpack message"),
        (array(data="12345678"), "needs 8 bytes, not a str"),
        (array(dtype="<U2", data=b"\xff" * 16), "no characters"),
        (msgpack.packb({b"__ndarray__": True}), "dtype None"),
        (msgpack.packb({b"__npgeneric__": True, b"data": "x", b"dtype": "<f4"}), "cannot be a str"),
        (msgpack.packb({b"__npgeneric__": True, b"data": 300, b"dtype": "|u1"}), "not a msgpack message"),
    ],
)
def test_hostile_frames_are_refused_in_a_sentence(frame: bytes, said: str) -> None:
    with pytest.raises(UserError) as caught:
        unpack(frame)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("value", [np.array([object()]), np.zeros(1, "V4"), np.complex64(1), {1, 2}, 2**70])
def test_what_cannot_be_sent_is_named(value: Any) -> None:
    with pytest.raises(UserError, match="cannot be packed"):
        pack({"a": value})
