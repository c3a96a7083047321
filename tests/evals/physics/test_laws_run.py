"""A scored run is judged law by law, beside its floor; tolerances come from ground-truth video."""

import json
import shutil
from pathlib import Path

import pytest

from wfm_sim.cli import main
from wfm_sim.data.files import read_json
from wfm_sim.errors import UserError
from wfm_sim.evals.estimate import Estimate
from wfm_sim.evals.physics.generate import GenerateSettings, generate
from wfm_sim.evals.physics.laws import LAWS, Measurement
from wfm_sim.evals.physics.laws_calibration import (
    SHIPPED,
    Thresholds,
    Tolerance,
    calibrate,
    conformal_limit,
    load_thresholds,
    save_thresholds,
    verdicts,
    worst_of,
)
from wfm_sim.evals.physics.laws_run import calibrate_on, judge_run
from wfm_sim.evals.physics.laws_summary import broken_share
from wfm_sim.evals.physics.score import ScoreSettings, score

SCORED = ScoreSettings(context=3, frames=24, dreamsim=False, videos=True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("laws") / "data"
    generate(root, GenerateSettings(("planar_slope",), episodes=2, views=1, frames=24, size=(80, 80), seed=5))
    return root


@pytest.fixture(scope="module")
def still(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose world stands still."""
    run = tmp_path_factory.mktemp("laws") / "still"
    score("repeat-last", data, run, SCORED)
    return run


def row(summary: dict, law: str, scene: str = "") -> dict:  # type: ignore[type-arg]
    return next(r for r in summary["rows"] if (r["law"], r["scene"]) == (law, scene))


def test_a_run_is_judged_beside_the_truth_and_another_engine(data: Path, still: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(data, other)
    seen: list[tuple[int, int]] = []
    summary = judge_run(still, data, rerun=other, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k, 6) for k in range(7)] and summary["sources"] == ["model", "truth", "rerun"]
    slope = row(summary, "slope_acceleration")
    assert slope["model"]["broken"]["value"] == 1.0 and slope["model"]["broken"]["n"] == 2
    assert slope["truth"]["broken"]["value"] == slope["rerun"]["broken"]["value"] == 0.0
    assert slope["found"] == pytest.approx(0.0, abs=0.05) and slope["true"] > 1
    assert row(summary, "permanence")["model"]["broken"]["value"] == 0.0
    assert "unscored" in row(summary, "time_order")["model"]["broken"]
    assert row(summary, "any law")["truth"]["broken"]["value"] == 0.0
    assert summary == read_json(still / "laws" / "summary.json")
    table = (still / "laws" / "table.md").read_text()
    assert "| acceleration down the slope (planar_slope) | 100 [34, 100] | 0 [0, 66] | 0 [0, 66] |" in table

    lines = (still / "laws" / "records.jsonl").read_text().splitlines()
    measured = json.loads(lines[0])["measurements"]
    assert {m["law"] for m in measured} <= set(LAWS) and all(m["unit"] == LAWS[m["law"]].unit for m in measured)
    (still / "laws" / "records.jsonl").write_text("\n".join(lines[:4]) + "\n" + lines[4][:30])  # killed while writing
    assert judge_run(still, data, rerun=other) == summary
    with pytest.raises(UserError, match="pixels"):
        judge_run(still, data, rerun=other, pixels=40)


def test_the_command_and_what_it_refuses(data: Path, still: Path, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    bare = tmp_path / "bare"
    score("repeat-last", data, bare, ScoreSettings(context=3, frames=24, dreamsim=False))
    elsewhere = tmp_path / "elsewhere"
    generate(elsewhere, GenerateSettings(("planar_slope",), episodes=1, views=1, frames=2, size=(16, 16)))
    broken = tmp_path / "broken.json"
    broken.write_text("{}")
    for arguments, message in (
        ([str(bare), "--data", str(data)], "keeps no videos; score into a new folder with `wfm-sim physics score"),
        ([str(tmp_path), "--data", str(data)], "config.json: no such file"),
        ([str(still), "--data", str(elsewhere)], "was scored on the data"),
        ([str(still), "--data", str(tmp_path)], "no physics data set"),
        ([str(still), "--data", str(data), "--rerun", str(data)], "is the data set itself"),
        ([str(still), "--data", str(data), "--pixels", "-1"], "pixels must not be negative, not -1"),
        ([str(still), "--data", str(data), "--thresholds", str(broken)], "wfm-sim physics calibrate-laws --data DIR"),
    ):
        assert main(["physics", "laws", *arguments]) == 2
        assert message in capsys.readouterr().err
    assert main(["physics", "calibrate-laws", "--data", str(data), "--out", str(broken), "--pixels", "x"]) == 2
    assert "pixels 'x': expected whole numbers" in capsys.readouterr().err


def test_tolerances_from_a_data_set(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "thresholds.json"
    made = calibrate_on(data, out, sizes=[40], contexts=[3], frames=24, progress=lambda done, total: None)
    known = load_thresholds(out)
    assert set(known.table) == set(made.table) and known.about["data"].startswith("sha256:")
    found = known.of(40, 3, "planar_slope", "slope_acceleration")
    assert found.clips == 2 and LAWS["slope_acceleration"].least <= found.limit < 1.0
    assert known.of(32, 9, "planar_slope", "slope_acceleration") == found  # the smallest size, the nearest context
    assert known.of(40, 3, "bowl", "permanence") == Tolerance(LAWS["permanence"].least, 0)


def measurement(law: str, found: float | None, truth: float = 0.0) -> Measurement:
    made = Estimate.none("hidden") if found is None else Estimate(found)
    return Measurement(law, "", made, Estimate(truth))


def test_deviations_count_on_the_side_that_the_law_says() -> None:
    assert measurement("gravity", 8.0, 9.8).deviation == pytest.approx(1.8)
    assert measurement("energy", -1.0).deviation == 0.0 and measurement("energy", 1.0).deviation == 1.0
    assert (
        measurement("time_order", -0.5, 1.0).deviation == 1.5 and measurement("time_order", 1.5, 1.0).deviation == 0.0
    )
    assert measurement("gravity", None).deviation is None and measurement("gravity", None).unscored == "hidden"


def test_verdicts_take_the_worst_measurement_and_say_what_is_missing() -> None:
    measured = [measurement("gravity", 9.0, 9.8), measurement("gravity", None), measurement("gravity", 5.0, 9.8)]
    measured.append(measurement("restitution", None))
    thresholds = Thresholds({(64, 9, "free_fall", "gravity"): Tolerance(1.0, 60)}, {})
    gravity, bounce = verdicts(measured, thresholds, "free_fall", 64, 9)
    assert gravity.broken and gravity.worst == measured[2] and gravity.unscored == "hidden"
    assert bounce.broken is None and bounce.worst is None and bounce.tolerance.clips == 0
    assert worst_of(measured) == {"gravity": measured[2]}


def test_the_limit_keeps_the_rate_of_false_alarms() -> None:
    values = [float(v) for v in range(99)]
    assert conformal_limit(values, 0.02) == 97.0  # of 100 draws, two are the largest ones
    assert conformal_limit(values[:10], 0.02) == 9.0  # too few: the largest
    clips = [(64, 9, "free_fall", [measurement("gravity", 9.8 + d, 9.8), measurement("restitution", 0.5, 0.5)])
             for d in (0.1, 0.9, 2.0)]  # fmt: skip
    table = calibrate(clips, {}).table
    assert table[64, 9, "free_fall", "gravity"].limit == pytest.approx(2.0)
    assert table[64, 9, "free_fall", "restitution"] == Tolerance(LAWS["restitution"].least, 3)


def test_an_episode_counts_once() -> None:
    share = broken_share([(0, True), (0, False), (1, True), (1, None), (2, None)])
    assert (share.value, share.n) == (0.75, 2)
    assert broken_share([(0, None)]).unscored == "none of 1 videos could be measured"
    assert broken_share([]).unscored == "not asked about"


def test_the_shipped_thresholds_are_whole(tmp_path: Path) -> None:
    known = load_thresholds()
    assert known.table and known.about["tracker"]
    assert all(t.limit >= LAWS[law].least and t.clips > 0 for (*_, law), t in known.table.items())
    save_thresholds(tmp_path / "again.json", known)
    assert (tmp_path / "again.json").read_bytes() == SHIPPED.read_bytes()
