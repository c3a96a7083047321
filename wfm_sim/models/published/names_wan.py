"""Parameter names of the WAN2.1 autoencoder as published (tokenizer.pth) <-> ours, which are diffusers'.

Each table is read in both directions, so one is the inverse of the other.
"""

from __future__ import annotations

from collections.abc import Iterable

Table = list[tuple[str, str]]

_INSIDE: Table = [  # (published, ours), anywhere in what follows the place
    ("residual.0.", "norm1."),
    ("residual.2.", "conv1."),
    ("residual.3.", "norm2."),
    ("residual.6.", "conv2."),
    ("shortcut.", "conv_shortcut."),
]


def _places(levels: int, num_res_blocks: int) -> Table:
    """(published, ours) beginnings. The published decoder counts blocks and upsamplers of all levels in one list."""
    table = [
        ("conv1.", "quant_conv."),
        ("conv2.", "post_quant_conv."),
        ("encoder.downsamples.", "encoder.down_blocks."),
    ]
    for side in ("encoder.", "decoder."):
        for theirs, ours in (
            ("conv1.", "conv_in."),
            ("middle.0.", "mid_block.resnets.0."),
            ("middle.1.", "mid_block.attentions.0."),
            ("middle.2.", "mid_block.resnets.1."),
            ("head.0.", "norm_out."),
            ("head.2.", "conv_out."),
        ):
            table.append((side + theirs, side + ours))
    blocks = []
    for i in range(levels):
        blocks += [f"decoder.up_blocks.{i}.resnets.{j}." for j in range(num_res_blocks + 1)]
        blocks += [f"decoder.up_blocks.{i}.upsamplers.0."] if i < levels - 1 else []
    return table + [(f"decoder.upsamples.{n}.", name) for n, name in enumerate(blocks)]


def _rename(name: str, places: Iterable[tuple[str, str]], inside: Iterable[tuple[str, str]]) -> str:
    for old, new in places:
        if name.startswith(old):
            rest = name[len(old) :]
            for a, b in inside:
                at = rest.find(a)
                if at == 0 or (at > 0 and rest[at - 1] == "."):
                    return new + rest[:at] + b + rest[at + len(a) :]
            return new + rest
    return name


def to_ours(name: str, levels: int, num_res_blocks: int) -> str:
    """Our name of a published tensor; `levels` is len(dim_mult)."""
    return _rename(name, _places(levels, num_res_blocks), _INSIDE)


def from_ours(name: str, levels: int, num_res_blocks: int) -> str:
    """Inverse of `to_ours`."""
    places = [(ours, theirs) for theirs, ours in _places(levels, num_res_blocks)]
    return _rename(name, places, [(ours, theirs) for theirs, ours in _INSIDE])
