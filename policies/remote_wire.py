"""What our client and our server say to each other beyond openpi: a batch's observation, and the info of its reset.

    {"wfm_sim/begin": {"mask": bool [B], "seeds": [int] * B, "info": to_wire(info)}}   -> {"wfm_sim/begun": B}
    {"wfm_sim/observation": to_wire(observation)}                                      -> {"actions": float32 [B, 7]}

These mirror Policy.reset and Policy.act. A server that understands them says so in its metadata, under `wfm_sim`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

OURS = "wfm_sim"  # the key of the metadata
BEGIN, BEGUN, OBSERVATION, INFO = "wfm_sim/begin", "wfm_sim/begun", "wfm_sim/observation", "wfm_sim/info"


def to_wire(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A batched info or observation as it is sent: numbers as arrays, text as lists, anything else left out."""
    sent: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            sent[key] = to_wire(value)
        elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            sent[key] = value
        elif isinstance(value, (np.ndarray, list)) and all(isinstance(text, str) for text in value):
            sent[key] = [str(text) for text in value]
    return sent


def from_wire(tree: Mapping[str, Any]) -> dict[str, Any]:
    """What `to_wire` was given, as Gymnasium has it: lists of text become object arrays."""
    read: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            read[key] = from_wire(value)
        elif isinstance(value, list):
            read[key] = np.array(value, dtype=object)
        else:
            read[key] = value
    return read
