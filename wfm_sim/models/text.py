"""Text for the published models: a prompt becomes a context, float [B, L, D], that the network cross-attends to.

Predict1 and Predict2 take T5-11B (512 x 1024), Predict2.5 all 28 layers of Cosmos-Reason1-7B (512 x 100,352). Where
neither fits into memory, embeddings computed elsewhere are read from a file; models trained on actions alone take
zeros. This is the one module that imports transformers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wfm_sim.errors import UserError, unknown
from wfm_sim.models.published.files import read_tensors
from wfm_sim.models.published.hub import find_folder

LENGTH = 512  # tokens, padded or truncated, of both published encoders
T5_WIDTH = 1024
REASON1_WIDTH = 28 * 3584
T5_REPOSITORY = "google-t5/t5-11b"
REASON1_REPOSITORY = "nvidia/Cosmos-Reason1-7B"
REASON1_SYSTEM = "You are a helpful assistant who will provide prompts to an image generator."


@dataclass(frozen=True)
class TextEncoder:
    """Prompts -> context.

    Attributes:
        description: What it is, for reports and metadata.
        width: D of the context.
        encode: Its function; call the encoder itself.
    """

    description: str
    width: int
    encode: Callable[[list[str]], Tensor]

    def __call__(self, prompts: str | Sequence[str]) -> Tensor:
        """One prompt or B of them -> float32 [B, L, D]."""
        return self.encode([prompts] if isinstance(prompts, str) else list(prompts)).float()


def zeros(width: int = T5_WIDTH, length: int = LENGTH) -> TextEncoder:
    """No text: what Predict1's action models were trained with."""
    return TextEncoder(f"zeros {length} x {width}", width, lambda prompts: torch.zeros(len(prompts), length, width))


def precomputed(path: Path) -> TextEncoder:
    """Embeddings from a file: .npy, .safetensors or .pt (tensors only).

    One tensor, [L, D] or [1, L, D], is given for every prompt; of several, each for the prompt that is its name.

    Raises:
        UserError: absent or unreadable file, another shape, or (when called) a prompt that is not in it.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file of text embeddings (.npy, .safetensors or .pt)")
    if path.suffix == ".npy":
        try:
            found = {"": torch.from_numpy(np.load(path, allow_pickle=False)).float()}
        except (ValueError, OSError, EOFError, TypeError) as error:
            raise UserError(f"{path}: not a readable .npy file of numbers ({error})") from None
    else:
        found = read_tensors(path)
    table = {}
    for name, value in found.items():
        if value.ndim == 3 and len(value) == 1:
            value = value[0]
        if value.ndim != 2 or not value.is_floating_point():
            raise UserError(f"{path}: expected embeddings [tokens, width], got {value.dtype} {tuple(value.shape)}")
        table[name] = value
    widths = {value.shape[1] for value in table.values()}
    if len(widths) != 1:
        raise UserError(f"{path}: expected embeddings of one width, got {sorted(widths)}")

    def encode(prompts: list[str]) -> Tensor:
        if len(table) == 1:
            (value,) = table.values()
            return value.expand(len(prompts), -1, -1)
        for prompt in prompts:
            if prompt not in table:
                raise unknown("prompt", prompt, table)
        return torch.stack([table[prompt] for prompt in prompts])

    return TextEncoder(f"precomputed in {path.name}", widths.pop(), encode)


def t5(model: Any, tokenizer: Any, length: int = LENGTH) -> TextEncoder:
    """From a transformers T5EncoderModel and its tokenizer: last hidden states, zeros beyond the prompt."""

    @torch.no_grad()
    def encode(prompts: list[str]) -> Tensor:
        tokens = tokenizer(prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        mask = tokens["attention_mask"].to(model.device)
        states = model(input_ids=tokens["input_ids"].to(model.device), attention_mask=mask).last_hidden_state
        return states * mask[..., None]

    return TextEncoder(f"T5 {length} x {model.config.d_model}", model.config.d_model, encode)


def normalised(states: Tensor) -> Tensor:
    """Zero mean and unit deviation over the features of each token. [..., D] -> float32 [..., D]."""
    states = states.float()
    return (states - states.mean(-1, keepdim=True)) / (states.std(-1, keepdim=True) + 1e-8)


def reason1(model: Any, tokenizer: Any, length: int = LENGTH) -> TextEncoder:
    """From Cosmos-Reason1 (transformers' Qwen2.5-VL) and its tokenizer: the normalised states of every layer, side by
    side. Padding is attended to and kept, as when Predict2.5 was trained."""
    config = model.config.get_text_config()
    width = config.num_hidden_layers * config.hidden_size
    padding = tokenizer.pad_token_id

    @torch.no_grad()
    def encode(prompts: list[str]) -> Tensor:
        rows = []
        for prompt in prompts:
            chat = [_message("system", REASON1_SYSTEM), _message("user", prompt)]
            ids = tokenizer.apply_chat_template(chat, tokenize=True, add_generation_prompt=False, return_dict=False)
            rows.append((list(ids) + [padding] * length)[:length])
        ids = torch.tensor(rows, device=model.device)
        layers = model.model(input_ids=ids, output_hidden_states=True).hidden_states[1:]  # [0]: the token embeddings
        return torch.cat([normalised(layer) for layer in layers], dim=-1)

    return TextEncoder(f"Cosmos-Reason1 {length} x {width}", width, encode)


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": [{"type": "text", "text": text}]}


def load_t5(folder: Path | None = None, *, device: str = "cpu", dtype: torch.dtype = torch.bfloat16) -> TextEncoder:
    """The encoder of T5-11B from a folder or the local hub cache (9.5 GB in bfloat16).

    Raises:
        UserError: transformers is not installed, or no such folder; the message says where it was looked for.
    """
    transformers = _transformers()
    path = find_folder(T5_REPOSITORY, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
    model = transformers.T5EncoderModel.from_pretrained(path, local_files_only=True, dtype=dtype)
    return t5(model.eval().to(device), tokenizer)


def load_reason1(
    folder: Path | None = None, *, device: str = "cpu", dtype: torch.dtype = torch.bfloat16
) -> TextEncoder:
    """Cosmos-Reason1-7B from a folder or the local hub cache (16.6 GB in bfloat16).

    Raises:
        UserError: as `load_t5`.
    """
    transformers = _transformers()
    path = find_folder(REASON1_REPOSITORY, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)
    model = transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(path, local_files_only=True, dtype=dtype)
    return reason1(model.eval().to(device), tokenizer)


def _transformers() -> Any:
    try:
        import transformers
    except ImportError:
        raise UserError("text encoders need transformers: pip install 'wfm-sim[cosmos]'") from None
    return transformers
