"""Submissions: what goes in comes out, and every wrong one is refused in one sentence that says where."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wfm_sim.errors import UserError
from wfm_sim.evals import submission_check
from wfm_sim.evals.statistics import Estimate, wilson
from wfm_sim.evals.submission import (
    ClipLink,
    Metric,
    PolicyCell,
    Protocol,
    RecordingLink,
    Subject,
    Submission,
    Submitter,
    Trust,
    TrustBin,
    read_submission,
    write_submission,
)


def full() -> Submission:
    """Everything that a submission can hold."""
    empty = Estimate.none("no prediction in this bin")
    return Submission(
        id="my-model-1",
        kind="policy",
        title="a title",
        world_model=Subject("my-model", "1.0", "sha256:" + "0f" * 32, "Apache-2.0", "https://example.org/m"),
        policies=(Subject("expert"), Subject("random")),
        metrics=(
            Metric("pearson", Estimate(0.9, 0.8, 0.95, 10), "higher", "Pearson r", "correlation", gate=0.95),
            Metric("psnr", Estimate(20.5, n=3), "higher", unit="dB", baselines={"repeat": Estimate.none("not run")}),
        ),
        cells=(
            PolicyCell("expert", "push", wilson(9, 10), wilson(10, 10), wilson(1, 10)),
            PolicyCell("random", "push", wilson(0, 10), Estimate.none("the robot was away")),
        ),
        trust=Trust((TrustBin(0.0, 0.5, None, empty), TrustBin(0.5, 1.0, 0.7, wilson(7, 10))), "right within 3 px"),
        protocol=Protocol("p", 20, "seeds 1-10", "a judge", "a tracker", "MuJoCo", ("another camera",)),
        machine={"cores": "2"},
        versions={"wfm-sim": "0.1.0"},
        clips=(ClipLink("clips/a b.mp4", "true", "clips/c.webm", "a clip", "expert", "push", False, True),),
        recordings=(RecordingLink("run.rrd", "all"),),
        date="2026-01-31T10:00:00+00:00",
        submitter=Submitter("A. Lab", "https://example.org"),
        notes="two\nlines",
    )


def test_a_submission_survives_its_file(tmp_path: Path) -> None:
    submission = full()
    path = write_submission(tmp_path, submission)
    assert read_submission(path) == submission
    assert json.loads(path.read_text())["schema"] == 1
    assert submission.media() == ["clips/a b.mp4", "clips/c.webm", "run.rrd"]


def at(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """An edit of the parsed file: content[keys[0]][keys[1]]... = value."""

    def edit(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return edit


def without(*keys: Any) -> Callable[[dict[str, Any]], None]:
    def edit(content: Any) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return edit


WRONG = [
    # the schema
    (at("schema", value=2), "$.schema: this version of wfm-sim reads submissions of schema 1, not 2."),
    (at("schema", value=True), "$.schema"),
    (without("id"), "$: the field 'id' is missing."),
    (at("metrix", value=[]), "$: unknown field 'metrix'; did you mean 'metrics'?"),
    (at("kind", value="polisy"), "$.kind: unknown value 'polisy'; did you mean 'policy'?"),
    (at("id", value="My Model"), '$.id: "My Model" does not have the form'),
    (at("id", value="../x"), "$.id"),
    (at("metrics", value=[]), "$.metrics: 0 entries; at least 1 are allowed."),
    (at("metrics", 0, "estimate", value=0.9), "$.metrics[0].estimate: expected object, found 0.9."),
    (at("metrics", 0, "estimate", "value", value="0.9"), "$.metrics[0].estimate.value: expected number or null"),
    (at("metrics", 0, "estimate", "value", value=True), "$.metrics[0].estimate.value: expected number or null"),
    (at("metrics", 0, "better", value="more"), "$.metrics[0].better: unknown value 'more'"),
    (at("title", value="x" * 201), "$.title: 201 characters; at most 200 are allowed."),
    (at("cells", value=[{}] * 5001), "$.cells"),
    (at("world_model", "url", value="javascript:alert(1)"), "$.world_model.url"),
    (at("submitter", "url", value="data:text/html,x"), "$.submitter.url"),
    (at("world_model", "hash", value="deadbeef"), "$.world_model.hash"),
    (at("machine", value={"cores": 2}), "$.machine.cores: expected string, found 2."),
    # what a schema cannot say
    (at("cells", 0, "imagined", "low", value=0.99), "$.cells[0].imagined.low: 0.99 is above the value 0.9."),
    (at("metrics", 0, "estimate", "low", value=0.91), "$.metrics[0].estimate.low: 0.91 is above the value 0.9."),
    (at("metrics", 0, "estimate", "high", value=0.85), "$.metrics[0].estimate.high: 0.85 is below the value 0.9."),
    (without("metrics", 0, "estimate", "low"), "an interval has both 'low' and 'high', or neither."),
    (at("metrics", 0, "estimate", "n", value=0), "a value rests on at least 1 episode, not 0."),
    (without("metrics", 0, "estimate", "n"), "a value rests on at least 1 episode, not 0."),
    (at("metrics", 0, "estimate", "value", value=None), "without a value it needs 'unscored', the reason."),
    (at("metrics", 0, "estimate", "unscored", value="why"), "it has a value and is 'unscored' as well."),
    (at("cells", 1, "true", value={"value": None, "unscored": " "}), "$.cells[1].true: without a value"),
    (at("cells", 1, "true", value={"value": None, "unscored": "x", "low": 0.1, "high": 1}), "without a value."),
    (at("cells", 0, "imagined", "high", value=1.1), "$.cells[0].imagined.high: 1.1 is outside [0, 1]."),
    (at("metrics", 0, "estimate", "low", value=-1.2), "is outside [-1, 1]."),
    (at("metrics", 1, "baselines", "repeat", value={"value": None}), "$.metrics[1].baselines['repeat']"),
    (at("metrics", 1, "name", value="pearson"), "$.metrics[1]: 'pearson' stands at [0] already."),
    (at("cells", 1, "policy", value="expert"), "$.cells[1]: 'expert', 'push' stands at [0] already."),
    (at("cells", 0, "policy", value="expart"), "$.cells[0].policy: unknown policy 'expart'; did you mean 'expert'?"),
    (without("cells"), "$.cells: an eval of kind 'policy' needs at least one cell."),
    (at("metrics", 0, "better", value="neither"), "$.metrics[0].gate: a gate needs a direction"),
    (at("trust", "bins", 1, "low", value=0.4), "$.trust.bins[1].low: 0.4 is below the end 0.5 of the bin before."),
    (at("trust", "bins", 1, "high", value=0.5), "$.trust.bins[1]: low 0.5 is not below high 0.5."),
    (at("trust", "bins", 1, "predicted", value=0.2), "$.trust.bins[1].predicted: 0.2 is outside its bin"),
    (at("trust", "bins", 1, "predicted", value=None), "$.trust.bins[1].predicted: null, but"),
    (at("date", value="31.1.2026"), "$.date: '31.1.2026' is not an ISO 8601 date"),
    (at("clips", 0, "path", value="/etc/passwd.mp4"), "$.clips[0].path: '/etc/passwd.mp4' is not a path relative"),
    (at("clips", 0, "path", value="C:/a.mp4"), "$.clips[0].path: 'C:/a.mp4' is not a path relative"),
    (at("clips", 0, "path", value="a\\b.mp4"), "is not a path relative"),
    (at("clips", 0, "path", value="../a.mp4"), "may not leave the submission's folder"),
    (at("clips", 0, "beside", value="clips/../../a.mp4"), "$.clips[0].beside: 'clips/../../a.mp4' may not leave"),
    (at("clips", 0, "path", value="a//b.mp4"), "may not leave the submission's folder or hold empty parts"),
    (at("clips", 0, "path", value='a".mp4'), "may hold letters, digits"),
    (at("clips", 0, "path", value="a.html"), "must end in .mp4 or .webm."),
    (at("recordings", 0, "path", value="run.exe"), "$.recordings[0].path: 'run.exe' must end in .rrd."),
]


@pytest.mark.parametrize(("edit", "sentence"), WRONG, ids=[s[:60] for _, s in WRONG])
def test_a_wrong_submission_is_refused_with_its_place(edit: Any, sentence: str, tmp_path: Path) -> None:
    content = full().to_json()
    edit(content)
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError) as refusal:
        read_submission(path)
    message = str(refusal.value)
    assert sentence in message
    assert message.startswith(f"{path}: $") and len(message) < len(str(path)) + 400 and "\n" not in message


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not valid JSON"),
        ("[]", "$: expected an object, found a list."),
        ("null", "$: expected an object, found null."),
        ('{"id": 1, "id": 2}', "the key 'id' stands twice in one object."),
        ('{"a": NaN}', "NaN is not a JSON number"),
        ("[" * 200_000, "nested too deeply"),
        ('{"a": ' * 3000 + "1" + "}" * 3000, "nested too deeply"),
        ('{"schema": ' + "9" * 5000 + "}", "not valid JSON"),
        ("\ud800", "not valid JSON"),
    ],
)
def test_what_is_no_json_is_refused(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(UserError) as refusal:
        read_submission(path)
    assert sentence in str(refusal.value) and len(str(refusal.value)) < len(str(path)) + 400


def test_infinity_by_the_back_door_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "wrong.json"
    path.write_text(json.dumps(full().to_json()).replace("20.5", "1e999"))
    with pytest.raises(UserError, match=r"metrics\[1\]\.estimate\.value"):
        read_submission(path)


def test_a_huge_or_missing_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_submission(tmp_path / "none.json")
    path = write_submission(tmp_path, full())
    monkeypatch.setattr("wfm_sim.evals.submission.MAX_BYTES", 100)
    with pytest.raises(UserError, match="may have 100 bytes"):
        read_submission(path)


def test_nothing_is_written_when_it_is_wrong(tmp_path: Path) -> None:
    wrong = Submission(**{**vars(full()), "clips": (ClipLink("../a.mp4"),)})
    with pytest.raises(UserError, match=r"\$\.clips\[0\]\.path"):
        write_submission(tmp_path, wrong)
    assert not list(tmp_path.iterdir())


def test_the_schema_is_a_schema_and_knows_every_field() -> None:
    from jsonschema import Draft202012Validator

    schema = json.loads(submission_check.SCHEMA_FILE.read_text())
    Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == {"schema", *Submission.__dataclass_fields__}
    for name, kind in {"subject": Subject, "metric": Metric, "cell": PolicyCell, "protocol": Protocol}.items():
        assert set(schema["$defs"][name]["properties"]) == set(kind.__dataclass_fields__), name
    for name, other in {"clip": ClipLink, "recording": RecordingLink, "estimate": Estimate}.items():
        assert set(schema["$defs"][name]["properties"]) == set(other.__dataclass_fields__), name
