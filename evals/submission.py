"""A submission to the leaderboard: what one evaluation of one world model found, as one JSON file.

    submission = Submission(id="my-model-policy", kind="policy", world_model=Subject("my-model"), ...)
    write_submission(folder, submission)           # folder/submission.json; refuses what `check` would refuse
    submission = read_submission(folder / "submission.json")

The format is `leaderboard_site/submission.schema.json` (JSON Schema 2020-12) and what `submission_check` asks on top.
Clips and recordings are files beside the submission: their paths are relative to its folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from wfm_sim.data.files import write_json
from wfm_sim.errors import UserError
from wfm_sim.evals.statistics import Estimate
from wfm_sim.evals.submission_check import MAX_BYTES, check, parse_json

SCHEMA_VERSION = 1
FILE_NAME = "submission.json"
ALL = "all"  # the task of a cell that pools all tasks of its policy

Kind = Literal["policy", "nano", "trust", "physics", "consistency", "video"]
Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Subject:
    """What was evaluated: a world model or a policy. `hash` is 'sha256:...' of the weights."""

    name: str
    version: str = ""
    hash: str = ""
    licence: str = ""
    url: str = ""


@dataclass(frozen=True)
class Metric:
    """One number of the evaluation.

    Attributes:
        name: Lower-case key, e.g. "pearson"; the same name must mean the same thing in all submissions of a kind.
        estimate: With its interval, or unscored.
        better: Which direction is better.
        label: What the column is called.
        unit: "rate" for a share in [0, 1] (shown in %), "correlation" for [-1, 1], else shown as it is: "px", "dB".
        gate: The limit that it was to meet.
        baselines: The same metric of references, e.g. {"repeat the first frame": Estimate(...)}.
    """

    name: str
    estimate: Estimate
    better: Better
    label: str = ""
    unit: str = ""
    gate: float | None = None
    baselines: Mapping[str, Estimate] = field(default_factory=dict)


@dataclass(frozen=True)
class PolicyCell:
    """Success of one policy on one task (or `ALL`), as imagined and in truth, in [0, 1].

    `corrected` is imagined success without the judge's measured error. `untrusted` is the share of imagined episodes
    in which the model was not to be trusted.
    """

    policy: str
    task: str
    imagined: Estimate
    true: Estimate
    untrusted: Estimate | None = None
    corrected: Estimate | None = None


@dataclass(frozen=True)
class TrustBin:
    """Of the predictions with trust in [low, high]: the mean trust, and the share that turned out right."""

    low: float
    high: float
    predicted: float | None
    observed: Estimate


@dataclass(frozen=True)
class Trust:
    """A reliability diagram. `meaning` says of what the trust is the probability."""

    bins: tuple[TrustBin, ...]
    meaning: str = ""


@dataclass(frozen=True)
class Protocol:
    """How it was measured. `differs` lists what departs from the published protocol of that name, one sentence each."""

    name: str
    episodes: int
    seeds: str = ""
    judge: str = ""
    tracker: str = ""
    truth: str = ""
    differs: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClipLink:
    """A clip to show. `shows` "pair" is truth left and imagined right; `beside` names a second clip of the episode."""

    path: str
    shows: Literal["pair", "imagined", "true"] = "pair"
    beside: str = ""
    caption: str = ""
    policy: str = ""
    task: str = ""
    imagined_success: bool | None = None
    true_success: bool | None = None


@dataclass(frozen=True)
class RecordingLink:
    """A .rrd file for the rerun viewer."""

    path: str
    caption: str = ""


@dataclass(frozen=True)
class Submitter:
    name: str
    url: str = ""


@dataclass(frozen=True)
class Submission:
    """One evaluation of one world model. `date` is ISO 8601; `machine` and `versions` map names to short texts."""

    id: str
    kind: Kind
    world_model: Subject
    metrics: tuple[Metric, ...]
    protocol: Protocol
    date: str
    submitter: Submitter
    title: str = ""
    policies: tuple[Subject, ...] = ()
    cells: tuple[PolicyCell, ...] = ()
    trust: Trust | None = None
    machine: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    clips: tuple[ClipLink, ...] = ()
    recordings: tuple[RecordingLink, ...] = ()
    notes: str = ""

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary; what is empty is left out."""
        return {"schema": SCHEMA_VERSION, **_plain(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Submission:
        """From what `to_json` gives, or a parsed file.

        Raises:
            UserError: the first thing that is wrong, with its path in the JSON.
        """
        check(content)
        c = {k: v for k, v in content.items() if k != "schema"}
        return cls(
            **{
                **c,
                "world_model": Subject(**c["world_model"]),
                "metrics": tuple(_metric(m) for m in c["metrics"]),
                "protocol": Protocol(**{**c["protocol"], "differs": tuple(c["protocol"].get("differs", ()))}),
                "submitter": Submitter(**c["submitter"]),
                "policies": tuple(Subject(**p) for p in c.get("policies", ())),
                "cells": tuple(_cell(x) for x in c.get("cells", ())),
                "trust": _trust(c["trust"]) if "trust" in c else None,
                "clips": tuple(ClipLink(**x) for x in c.get("clips", ())),
                "recordings": tuple(RecordingLink(**x) for x in c.get("recordings", ())),
            }
        )

    def media(self) -> list[str]:
        """Relative paths of all clips and recordings, each once."""
        paths = [p for clip in self.clips for p in (clip.path, clip.beside) if p]
        return list(dict.fromkeys([*paths, *(r.path for r in self.recordings)]))


def read_submission(path: Path | str) -> Submission:
    """Read and check a submission file.

    Raises:
        UserError: missing, larger than 4 MiB, not JSON, or wrong; the sentence names the file and the JSON path.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(f"a submission may have {MAX_BYTES} bytes, this has {path.stat().st_size}.")
        return Submission.from_json(parse_json(path.read_bytes()))
    except OSError as error:
        raise UserError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def write_submission(folder: Path | str, submission: Submission) -> Path:
    """Check it and write `folder`/submission.json, whole or not at all. UserError as `Submission.from_json`."""
    content = submission.to_json()
    check(content)
    path = Path(folder) / FILE_NAME
    write_json(path, content)
    return path


def slug(text: str) -> str:
    """A submission's id from free text: lower case, at most 80 of a-z 0-9 . _ -"""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:80] or "run"


def _plain(value: Any) -> Any:
    if isinstance(value, Estimate):
        return {k: v for k, v in value.to_json().items() if k == "value" or v is not None}
    if is_dataclass(value):
        items = {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
        needed = ("value", "predicted")  # whose null says something
        return {k: v for k, v in items.items() if k in needed or v not in (None, "", {}, [])}
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (tuple, list)) else value


def _metric(content: Mapping[str, Any]) -> Metric:
    baselines = {k: Estimate(**v) for k, v in content.get("baselines", {}).items()}
    return Metric(**{**content, "estimate": Estimate(**content["estimate"]), "baselines": baselines})


def _cell(content: Mapping[str, Any]) -> PolicyCell:
    estimates = {k: Estimate(**content[k]) for k in ("imagined", "true", "untrusted", "corrected") if k in content}
    return PolicyCell(content["policy"], content["task"], **estimates)


def _trust(content: Mapping[str, Any]) -> Trust:
    bins = (TrustBin(**{**b, "observed": Estimate(**b["observed"])}) for b in content["bins"])
    return Trust(tuple(bins), content.get("meaning", ""))
