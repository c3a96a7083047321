"""Other people's files: what is read from them, and what each kind of bad file is told."""

import io
import json
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from wfm_sim.errors import UserError
from wfm_sim.models.published.files import read_index, read_metadata, read_tensors


def some_tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        "net.a.weight": torch.randn(3, 5),
        "net.b": torch.randn(4).to(torch.bfloat16),
        "net.c": torch.randn(2, 2).half(),
        "net.d": torch.arange(6).view(2, 3),
        "net.e": torch.tensor([True, False]),
        "net.f": torch.tensor(3.5),
        "net.g": torch.empty(0, 4),
        "net.h": torch.randn(2).double(),
        "net.i": torch.arange(3, dtype=torch.uint8),
        "net.j": torch.arange(3, dtype=torch.int32),
    }


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert sorted(got) == sorted(expected)
    for name, value in expected.items():
        assert got[name].dtype == value.dtype, name
        assert got[name].shape == value.shape, name
        assert torch.equal(got[name], value), name


def test_safetensors(tmp_path: Path) -> None:
    save_file(some_tensors(), tmp_path / "a.safetensors", metadata={"format": "pt"})
    assert_same(read_tensors(tmp_path / "a.safetensors"), some_tensors())
    assert_same(read_tensors(tmp_path), some_tensors())  # a folder with one file is that file
    assert read_metadata(tmp_path / "a.safetensors") == {"format": "pt"}


@pytest.mark.parametrize("length", [0x80, 0x180])
def test_a_safetensors_header_may_begin_like_a_pickle(length: int, tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'.ljust(length)
    body = torch.tensor([1.0, 2.0]).numpy().tobytes()
    (tmp_path / "a.safetensors").write_bytes(length.to_bytes(8, "little") + header + body)
    assert read_tensors(tmp_path / "a.safetensors")["a"].tolist() == [1, 2]


def shards(folder: Path) -> Path:
    tensors = some_tensors()
    names = list(tensors)
    weight_map = {}
    for i in range(2):
        file = f"model-0000{i + 1}-of-00002.safetensors"
        save_file({n: tensors[n] for n in names[i::2]}, folder / file)
        weight_map |= dict.fromkeys(names[i::2], file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


def test_sharded_safetensors(tmp_path: Path) -> None:
    index = shards(tmp_path)
    assert_same(read_tensors(index), some_tensors())
    assert_same(read_tensors(tmp_path), some_tensors())
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"1 of its shards are missing: model-00002-of-00002\.safetensors"):
        read_index(index)


def test_an_index_cannot_point_elsewhere(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))
    with pytest.raises(UserError, match="no file beside it"):
        read_index(index)


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "no_suffix"])
def test_saved_state_dict(name: str, tmp_path: Path) -> None:
    torch.save(OrderedDict(some_tensors()), tmp_path / name)
    assert_same(read_tensors(tmp_path / name), some_tensors())


def test_saved_views_parameters_and_nested_containers(tmp_path: Path) -> None:
    base = torch.arange(24.0).view(4, 6)
    content = {
        "model": {"t": base.t(), "row": base[1], "step": base[::2, 1::2], "p": nn.Parameter(base.clone())},
        "pair": (torch.ones(2), [torch.zeros(1)]),
        "wide": torch.ones(1).expand(3),
        "f8": torch.ones(3).to(torch.float8_e4m3fn),
        "u16": torch.arange(3).to(torch.uint16),
        "net.x._extra_state": io.BytesIO(b"what Transformer Engine leaves"),
        "iteration": 7,
        "note": None,
    }
    torch.save(content, tmp_path / "model.pt")
    got = read_tensors(tmp_path / "model.pt")
    expected = {
        "model.t": base.t(),
        "model.row": base[1],
        "model.step": base[::2, 1::2],
        "model.p": base,
        "pair.0": torch.ones(2),
        "pair.1.0": torch.zeros(1),
        "wide": torch.ones(3),
        "u16": torch.arange(3).to(torch.uint16),
    }
    f8 = got.pop("f8")
    assert f8.dtype == torch.float8_e4m3fn
    assert f8.float().tolist() == [1, 1, 1]
    assert_same(got, expected)


def test_one_saved_tensor(tmp_path: Path) -> None:
    torch.save(torch.ones(2, 3), tmp_path / "t.pt")
    assert_same(read_tensors(tmp_path / "t.pt"), {"tensor": torch.ones(2, 3)})


class Net(nn.Module):
    """Submodules, a list of them, buffers, and the same parameter under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 4, 3), norm=nn.BatchNorm2d(4)))
        self.layers = nn.ModuleList([nn.Linear(4, 4) for _ in range(2)])
        self.tied = self.layers[1]
        self.register_buffer("levels", torch.tensor([8, 5]))
        self.scale = 2.0

    def forward(self, x: Tensor) -> Tensor:
        h = self.encoder(x).mean((2, 3))
        for layer in self.layers:
            h = layer(h)
        return self.tied(h) * self.scale + self.levels.sum()


@pytest.mark.parametrize("how", ["script", "trace"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_torchscript_is_read_for_its_state_dict(how: str, dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = Net().eval().to(dtype)
    made = torch.jit.script(net) if how == "script" else torch.jit.trace(net, torch.randn(1, 3, 8, 8, dtype=dtype))
    path = tmp_path / "autoencoder.jit"
    made.save(path)
    expected = torch.jit.load(path).state_dict()
    assert "encoder.norm.running_mean" in expected
    assert_same(read_tensors(path), expected)


def test_the_code_of_a_torchscript_archive_is_not_needed(tmp_path: Path) -> None:
    path, without = tmp_path / "a.jit", tmp_path / "b.jit"
    torch.jit.script(Net()).save(path)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(without, "w") as new:
        for info in old.infolist():
            if "/code/" not in info.filename:
                new.writestr(info.filename, old.read(info))
    assert_same(read_tensors(without), torch.jit.load(path).state_dict())


# ------------------------------------------------------------------------------------------------------- bad files


class Evil:
    """Unpickled freely, this would make a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_a_malicious_archive_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(1), "x": Evil(tmp_path / "run")}, tmp_path / "model.pt")
    with pytest.raises(UserError, match=r"its pickle asks for posix\.mkdir, .*nothing of it was run"):
        read_index(tmp_path / "model.pt")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "opcodes",
    [
        b"c__builtin__\neval\n(S'1'\ntR.",
        b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93.",
        b"ctorch\nload\n(S'x'\ntR.",
        b"ctorch.serialization\n_load\n(tR.",
    ],
)
def test_no_other_name_can_be_reached(opcodes: bytes, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("model/data.pkl", opcodes)
    with pytest.raises(UserError, match="its pickle asks for"):
        read_index(tmp_path / "model.pt")


def test_a_pickle_cannot_alter_where_tensors_lie(tmp_path: Path) -> None:
    class Bent:
        def __reduce__(self) -> tuple[object, ...]:
            t = torch.ones(2)
            return torch._utils._rebuild_tensor_v2, t.__reduce_ex__(2)[1], {"offset": 0}

    torch.save({"t": Bent()}, tmp_path / "model.pt")
    with pytest.raises(UserError, match="damaged"):
        read_index(tmp_path / "model.pt")


def test_a_bare_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(pickle.dumps({"weight": [1.0]}))
    with pytest.raises(UserError, match="a bare Python pickle, which is never opened"):
        read_index(tmp_path / "model.pt")


def test_the_old_pytorch_format_is_refused_by_name(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "model.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match=r"before version 1\.6"):
        read_index(tmp_path / "model.pt")


@pytest.mark.parametrize("kind", ["pt", "jit", "safetensors"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_truncated(kind: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"model.{kind}"
    if kind == "pt":
        torch.save(some_tensors(), path)
    elif kind == "jit":
        torch.jit.script(Net()).save(path)
    else:
        save_file(some_tensors() | {"last": torch.ones(2000)}, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match="truncated"):
        read_index(path)


def test_damaged_bytes_are_found_by_their_checksum(tmp_path: Path) -> None:
    torch.save({"a": torch.arange(100.0)}, tmp_path / "model.pt")
    whole = bytearray((tmp_path / "model.pt").read_bytes())
    at = bytes(whole).find(torch.arange(100.0).numpy().tobytes())
    whole[at + 40] ^= 1
    (tmp_path / "model.pt").write_bytes(whole)
    with pytest.raises(UserError, match=r"damaged .*checksum"):
        read_tensors(tmp_path / "model.pt")


def test_a_damaged_pickle(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02}q\x00X\xff\xff")
    with pytest.raises(UserError, match="damaged PyTorch archive"):
        read_index(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html>Access denied</html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"", "neither PyTorch's nor safetensors"),
        (b"hello, these are no weights at all", "neither PyTorch's nor safetensors"),
        ((20).to_bytes(8, "little") + b"{'no': json at all}.", "damaged in its header"),
        ((30).to_bytes(8, "little") + b'{"a": {"dtype": "F99"}}       ', "damaged in its header"),
    ],
)
def test_what_is_no_checkpoint(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_index(tmp_path / "model.pt")


def test_another_zip_and_an_absent_file(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", b"")
    with pytest.raises(UserError, match="a zip archive, but not one of PyTorch's"):
        read_index(tmp_path / "a.npz")
    with pytest.raises(UserError, match="no such file"):
        read_index(tmp_path / "absent.pt")
    with pytest.raises(UserError, match=r"expected one \.safetensors file or index in this folder, found none"):
        read_index(tmp_path)
