"""Reference cases: one published network at a small size, with random weights, inputs and the outputs it gave.

A case is a safetensors file with tensors `state.*` (weights), `in.*` and `out.*`, and in its metadata `cls` (the
reference's class) and `config` (JSON, the reference's own names).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from wfm_sim.errors import UserError

Tensors = dict[str, Tensor]

LIMIT = 1e-4  # of the output's scale, in float32
STREAM_LIMIT = 1e-5  # piece by piece against all at once, both of them ours


@dataclass(frozen=True)
class Case:
    """One file: its name, the reference's class and configuration, weights, inputs and expected outputs."""

    name: str
    cls: str
    config: dict[str, Any]
    state: Tensors
    given: Tensors
    expected: Tensors


@dataclass(frozen=True)
class Comparison:
    """One output beside what it should be: the largest error, and how large it may be."""

    output: str
    error: float
    limit: float = LIMIT

    @property
    def passed(self) -> bool:
        return self.error <= self.limit  # False for NaN


# Runs a case with our networks.
Runner = Callable[[Case], list[Comparison]]


def relative_error(ours: Tensor, reference: Tensor) -> float:
    """Largest absolute difference over the reference's largest absolute value; infinite where shapes differ.

    Integers (token indices) must agree exactly: the share of those that do not, or 0.
    """
    if ours.shape != reference.shape:
        return float("inf")
    if not reference.is_floating_point():
        return float((ours != reference).double().mean())
    scale = reference.abs().max().double()
    return float((ours.double() - reference.double()).abs().max() / (scale if scale > 0 else 1.0))


def compare(case: Case, ours: Tensors) -> list[Comparison]:
    """All outputs of a case; one that was not computed counts as an infinite error."""
    nothing = torch.empty(0)
    out = []
    for name, reference in case.expected.items():
        got = ours.get(name, nothing)
        out.append(Comparison(name, relative_error(got, reference), LIMIT if reference.is_floating_point() else 0.0))
    return out


def same(output: str, ours: Tensor, reference: Tensor, limit: float = STREAM_LIMIT) -> Comparison:
    """Two ways of ours to compute one thing (in pieces and at once, say)."""
    return Comparison(output, relative_error(ours, reference), limit)


def read_case(path: Path) -> Case:
    """A case from its file.

    Raises:
        UserError: it is no reference case.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 (a safe_open handle is no dict)
            meta = file.metadata() or {}
        config = json.loads(meta["config"])
        cls = meta["cls"]
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: no reference case ({error})") from None
    groups: dict[str, Tensors] = {"state": {}, "in": {}, "out": {}}
    for key, value in tensors.items():
        group, _, name = key.partition(".")
        if group not in groups:
            raise UserError(f"{path}: no reference case (a tensor {key!r})")
        groups[group][name] = value
    return Case(path.stem, cls, config, groups["state"], groups["in"], groups["out"])
