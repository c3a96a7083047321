"""What a submission must hold: the JSON Schema first, then what a schema cannot say. One refusal, one sentence.

Every refusal starts with the place: `$.cells[3].true.low: 0.9 is above the value 0.8.`
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from wfm_sim.errors import UserError, unknown

MAX_BYTES = 4 * 2**20
SCHEMA_FILE = Path(__file__).parent / "leaderboard_site" / "submission.schema.json"
CLIP_SUFFIXES = (".mp4", ".webm")
RECORDING_SUFFIXES = (".rrd",)
RANGES = {"rate": (0.0, 1.0), "correlation": (-1.0, 1.0)}
_SLACK = 1e-9  # of floating-point bounds


def parse_json(data: bytes) -> Any:
    """Strict JSON: UTF-8, no NaN or Infinity, no key twice. UserError with the place."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in items:
            if key in found:
                raise UserError(f"the key {key[:80]!r} stands twice in one object.")
            found[key] = value
        return found

    def constant(name: str) -> Any:
        raise UserError(f"{name} is not a JSON number; an estimate without a value is null with 'unscored'.")

    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except RecursionError:
        raise UserError("not a submission: it is nested too deeply.") from None
    except UserError:
        raise
    except ValueError as error:  # not JSON, not UTF-8, a number of more digits than Python reads
        raise UserError(f"not valid JSON ({str(error)[:200]})") from None


def check(content: Any) -> None:
    """Raise a UserError with the first thing that is wrong with a parsed submission."""
    _check_version(content)
    _check_schema(content)
    for path, estimate, bounds in _estimates(content):
        _check_estimate(path, estimate, bounds)
    _check_unique(content)
    _check_policies(content)
    _check_gates(content)
    _check_trust(content.get("trust"))
    _check_date(content["date"])
    _check_paths(content)


def check_path(path: str, suffixes: Sequence[str], place: str) -> None:
    """A relative path of plain names with one of `suffixes`; UserError says what else it is."""
    parts = path.split("/")
    if path.startswith("/") or "\\" in path or ":" in path:
        raise UserError(f"{place}: {path!r} is not a path relative to the submission, with '/' between folders.")
    if any(part in ("", ".", "..") for part in parts):
        raise UserError(f"{place}: {path!r} may not leave the submission's folder or hold empty parts.")
    if any(not (c.isascii() and (c.isalnum() or c in "._- +=")) for part in parts for c in part):
        raise UserError(f"{place}: {path!r} may hold letters, digits, spaces and . _ - + = only.")
    if PurePosixPath(path).suffix.lower() not in suffixes:
        raise UserError(f"{place}: {path!r} must end in {' or '.join(suffixes)}.")


def _check_version(content: Any) -> None:
    """Before the schema, whose word on a later version would be about its new fields."""
    if not isinstance(content, Mapping):
        raise UserError(f"$: expected an object, found {_word(content)}.")
    version = content.get("schema", 1)
    if version != 1 or isinstance(version, bool):
        raise UserError(f"$.schema: this version of wfm-sim reads submissions of schema 1, not {_word(version)}.")


@cache
def _validator() -> Any:
    from jsonschema import Draft202012Validator

    return Draft202012Validator(json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))


def _check_schema(content: Mapping[str, Any]) -> None:
    try:
        error = next(iter(_validator().iter_errors(content)), None)
    except RecursionError:
        raise UserError("not a submission: it is nested too deeply.") from None
    if error is not None:
        raise UserError(f"{_place(error.absolute_path)}: {_sentence(error)}")


def _sentence(error: Any) -> str:
    """One schema violation in our words; jsonschema's own may quote the whole file."""
    rule, wanted, found = error.validator, error.validator_value, error.instance
    if rule == "required":
        return f"the field {next(name for name in wanted if name not in found)!r} is missing."
    if rule == "additionalProperties" and wanted is False:
        known = error.schema.get("properties", {})
        return str(unknown("field", next(k for k in found if k not in known)[:80], known))
    if rule == "enum":
        return str(unknown("value", str(found)[:80], [str(v) for v in wanted]))
    if rule == "type":
        names = wanted if isinstance(wanted, list) else [wanted]
        return f"expected {' or '.join(names)}, found {_word(found)}."
    if rule == "pattern":
        return f"{_word(found)} does not have the form {wanted}"
    if rule in ("maxLength", "minLength"):
        return f"{len(found)} characters; {'at most' if rule == 'maxLength' else 'at least'} {wanted} are allowed."
    if rule in ("maxItems", "minItems", "maxProperties"):
        return f"{len(found)} entries; {'at least' if rule == 'minItems' else 'at most'} {wanted} are allowed."
    if rule in ("minimum", "maximum"):
        return f"{_word(found)} is {'below' if rule == 'minimum' else 'above'} {wanted}."
    return str(error.message)[:200]


def _estimates(content: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any], tuple[float, float] | None]]:
    """(place, estimate, range it must lie in) of every estimate."""
    for i, metric in enumerate(content["metrics"]):
        bounds = RANGES.get(metric.get("unit", ""))
        yield f"$.metrics[{i}].estimate", metric["estimate"], bounds
        for name, estimate in metric.get("baselines", {}).items():
            yield f"$.metrics[{i}].baselines[{name[:80]!r}]", estimate, bounds
    for i, cell in enumerate(content.get("cells", ())):
        for world in ("imagined", "true", "untrusted", "corrected"):
            if world in cell:
                yield f"$.cells[{i}].{world}", cell[world], RANGES["rate"]
    for i, entry in enumerate(content.get("trust", {}).get("bins", ())):
        yield f"$.trust.bins[{i}].observed", entry["observed"], RANGES["rate"]


def _check_estimate(place: str, estimate: Mapping[str, Any], bounds: tuple[float, float] | None) -> None:
    value, low, high = (estimate.get(k) for k in ("value", "low", "high"))
    reason = estimate.get("unscored", "").strip()
    for name, number in (("value", value), ("low", low), ("high", high)):
        if number is None:
            continue
        if not math.isfinite(number):  # a JSON 1e999 parses to infinity
            raise UserError(f"{place}.{name}: {number} is not a finite number.")
        if bounds and not bounds[0] - _SLACK <= number <= bounds[1] + _SLACK:
            raise UserError(f"{place}.{name}: {number:g} is outside [{bounds[0]:g}, {bounds[1]:g}].")
    if value is None:
        if not reason:
            raise UserError(f"{place}: without a value it needs 'unscored', the reason.")
        if low is not None or high is not None:
            raise UserError(f"{place}: an interval without a value.")
        return
    if reason:
        raise UserError(f"{place}: it has a value and is 'unscored' as well.")
    if estimate.get("n", 0) < 1:
        raise UserError(f"{place}.n: a value rests on at least 1 episode, not {estimate.get('n', 0)}.")
    if (low is None) != (high is None):
        raise UserError(f"{place}: an interval has both 'low' and 'high', or neither.")
    if low is not None and high is not None:
        slack = _SLACK * max(1.0, abs(value))
        if low > value + slack:
            raise UserError(f"{place}.low: {low:g} is above the value {value:g}.")
        if high < value - slack:
            raise UserError(f"{place}.high: {high:g} is below the value {value:g}.")


def _check_unique(content: Mapping[str, Any]) -> None:
    for field, keys in (("metrics", ("name",)), ("policies", ("name",)), ("cells", ("policy", "task"))):
        seen: dict[tuple[Any, ...], int] = {}
        for i, entry in enumerate(content.get(field, ())):
            key = tuple(entry[k] for k in keys)
            if key in seen:
                raise UserError(f"$.{field}[{i}]: {', '.join(map(repr, key))} stands at [{seen[key]}] already.")
            seen[key] = i


def _check_policies(content: Mapping[str, Any]) -> None:
    if content["kind"] == "policy" and not content.get("cells"):
        raise UserError("$.cells: an eval of kind 'policy' needs at least one cell.")
    listed = [p["name"] for p in content.get("policies", ())]
    for i, cell in enumerate(content.get("cells", ())):
        if listed and cell["policy"] not in listed:
            raise UserError(f"$.cells[{i}].policy: {unknown('policy', cell['policy'], listed)}")


def _check_gates(content: Mapping[str, Any]) -> None:
    for i, metric in enumerate(content["metrics"]):
        if "gate" in metric and metric["better"] == "neither":
            raise UserError(f"$.metrics[{i}].gate: a gate needs a direction; 'better' is 'neither'.")
        if "gate" in metric and not math.isfinite(metric["gate"]):
            raise UserError(f"$.metrics[{i}].gate: {metric['gate']} is not a finite number.")


def _check_trust(trust: Mapping[str, Any] | None) -> None:
    end = 0.0
    for i, entry in enumerate(trust["bins"] if trust else ()):
        low, high, predicted = entry["low"], entry["high"], entry["predicted"]
        if not low < high:
            raise UserError(f"$.trust.bins[{i}]: low {low:g} is not below high {high:g}.")
        if low < end - _SLACK:
            raise UserError(f"$.trust.bins[{i}].low: {low:g} is below the end {end:g} of the bin before.")
        if predicted is not None and not low - _SLACK <= predicted <= high + _SLACK:
            raise UserError(f"$.trust.bins[{i}].predicted: {predicted:g} is outside its bin [{low:g}, {high:g}].")
        if predicted is None and entry["observed"]["value"] is not None:
            raise UserError(f"$.trust.bins[{i}].predicted: null, but the bin has an observed value.")
        end = high


def _check_date(text: str) -> None:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"$.date: {text!r} is not an ISO 8601 date, like 2026-01-31.") from None


def _check_paths(content: Mapping[str, Any]) -> None:
    for i, clip in enumerate(content.get("clips", ())):
        for field in ("path", "beside"):
            if field in clip:
                check_path(clip[field], CLIP_SUFFIXES, f"$.clips[{i}].{field}")
    for i, recording in enumerate(content.get("recordings", ())):
        check_path(recording["path"], RECORDING_SUFFIXES, f"$.recordings[{i}].path")


def _place(path: Any) -> str:
    return "$" + "".join(f"[{p}]" if isinstance(p, int) else f".{str(p)[:80]}" for p in path)


def _word(value: Any) -> str:
    """A short text for a value of any size."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value) if not isinstance(value, float) else f"{value:g}"
    return text if len(text) <= 80 else text[:77] + "..."
