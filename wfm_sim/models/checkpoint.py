"""World models as self-describing safetensors files: weights, configuration, and how they came to be."""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from wfm_sim.data.files import atomic_path
from wfm_sim.errors import UserError, unknown
from wfm_sim.models.camera_world import CameraWorldModel
from wfm_sim.models.causal_world import CausalWorldModel, WorldConfig
from wfm_sim.weights import shipped

FORMAT = "wfm-sim world model 1"
LARGE = ("tokenizer.", "net.", "depth.", "objects.reader.", "objects.painter.")  # whose matrices may be stored coarser
Model = TypeVar("Model", bound=nn.Module)


def shipped_weights(format_: str = FORMAT) -> dict[str, Path]:
    """Name -> file of every world model (or model of another format) that ships with the package."""
    return {name: path for name, path in shipped().items() if has_format(path, format_)}


def has_format(path: Path, format_: str) -> bool:
    """Whether this is a file of `write_weights` with that format."""
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("format") == format_
    except (SafetensorError, OSError):
        return False


def save(model: CausalWorldModel, path: Path, *, about: dict[str, Any], dtype: torch.dtype = torch.float32) -> None:
    """Save weights, configuration and `about` (recipe, data seed, measured quality: anything that JSON can hold).

    `dtype` is that of the stored matrices; buffers and normalisation stay float32.
    """
    write_weights(path, FORMAT, model.cfg.to_dict(), model.state_dict(), about, dtype)


def write_weights(
    path: Path,
    format_: str,
    config: dict[str, Any],
    state: Mapping[str, Tensor],
    about: dict[str, Any],
    dtype: torch.dtype,
) -> None:
    """Write a self-describing file: matrices of tokenizer and networks as `dtype`, everything else as it is."""
    tensors = {}
    for name, value in state.items():
        keep = not name.startswith(LARGE) or value.ndim < 2 or not value.is_floating_point()
        tensors[name] = (value.detach().cpu() if keep else value.detach().cpu().to(dtype)).contiguous()
    meta = {"format": format_, "config": json.dumps(config), "about": json.dumps(about)}
    with atomic_path(path) as partial:
        save_file(tensors, partial, metadata=meta)


def fast_dtype(device: str = "cpu") -> torch.dtype:
    """bfloat16 where the machine multiplies it natively (GPUs, CPUs with AMX or AVX512-BF16), else float32."""
    if torch.device(device).type != "cpu":
        return torch.bfloat16
    # private probes, so they may go one day
    probes = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return torch.bfloat16 if any(probe is not None and probe() for probe in probes) else torch.float32


def is_path(text: str) -> bool:
    """Whether it stands for a file or folder, not for a model's name (which may have a dot: 'predict2.5-2b')."""
    path = Path(text)
    return path.suffix[1:2].isalpha() or os.sep in text or path.exists()


def load(
    name_or_path: str | os.PathLike[str], *, device: str = "cpu", dtype: torch.dtype | None = None
) -> CausalWorldModel:
    """A world model by shipped name ('nano-tabletop') or from a file.

    Args:
        name_or_path: As above.
        device: Where it runs.
        dtype: What its network computes in; None for `fast_dtype`. Latents and tokenizer stay float32.

    Raises:
        UserError: no such model, or a file that is no world model of ours (truncated, pickled, of another kind).
    """
    return load_as(
        name_or_path,
        (FORMAT, "world model", "wfm-sim train action"),
        lambda config: untrained(WorldConfig.from_dict(config)),
        device,
        dtype,
    )


def untrained(cfg: WorldConfig) -> CausalWorldModel:
    """A world model of this configuration, driven by actions or, where it says something of a camera, by its motion."""
    return CausalWorldModel(cfg) if cfg.camera is None else CameraWorldModel(cfg)


def load_as(
    name_or_path: str | os.PathLike[str],
    kind: tuple[str, str, str],
    build: Callable[[dict[str, Any]], Model],
    device: str,
    dtype: torch.dtype | None,
) -> Model:
    """`load` for a model of any format; it has a `net` and `metadata`.

    Args:
        kind: Format, what to call it in messages, and the command that writes it.
        build: From its configuration to an untrained model.
    """
    format_, what, command = kind
    path = find_weights(name_or_path, format_, what, command)
    meta, state = read_weights(path, format_, what)
    try:
        model = build(json.loads(meta["config"]))
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"{path}: its configuration is not one of this version of wfm-sim ({error})") from None
    fill(model, state, path)
    model.metadata = json.loads(meta.get("about", "{}"))  # type: ignore[assignment]
    model.net.to(fast_dtype(device) if dtype is None else dtype)
    return model.eval().requires_grad_(False).to(device)


def find_weights(name_or_path: str | os.PathLike[str], format_: str, what: str, command: str) -> Path:
    """The file of a shipped name, or the path itself where it is a file. Raises UserError where there is none.

    what, command: For the message: 'world model', and what writes such files.
    """
    text = os.fspath(name_or_path)
    path = Path(text)
    if not is_path(text):
        known = shipped_weights(format_)
        if text not in known:
            raise unknown(what, text, known)
        path = known[text]
    if not path.is_file():
        raise UserError(f"no {what} file {text}: expected a .safetensors file written by `{command}`")
    return path


def read_weights(path: Path, format_: str, what: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file of `write_weights`. Raises UserError: unreadable, or of another format."""
    try:
        with safe_open(path, "pt") as file:
            meta = file.metadata() or {}
            state = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (a safe_open handle is no dict)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: not a readable safetensors file ({_why(path, error)})") from None
    if meta.get("format") != format_:
        raise UserError(f"{path}: a safetensors file, but no {what} (its metadata lacks format={format_!r})")
    return meta, state


def fill(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load tensors into a model, as float32. Raises UserError where they are not just the model's."""
    expected, got = model.state_dict(), {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    wrong = sorted(set(expected) ^ set(got)) + [k for k in expected if k in got and expected[k].shape != got[k].shape]
    if wrong:
        raise UserError(f"{path}: {len(wrong)} tensors missing, unexpected or mis-shaped, e.g. {', '.join(wrong[:3])}")
    model.load_state_dict(got)


def _why(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        head = file.read(4)
    if head[:2] == b"PK" or head[:1] == b"\x80":
        return "it holds a Python pickle, which is never opened; convert it to safetensors"
    return "truncated or damaged" if "Header" in str(error) or "Metadata" in str(error) else str(error)
