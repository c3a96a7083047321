"""Clips, recording and submission of a scoring run, on real scenes; physics on the leaderboard."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wfm_sim.data.physics import PhysicsData, open_physics
from wfm_sim.data.video import read_video
from wfm_sim.errors import UserError
from wfm_sim.evals.leaderboard import build
from wfm_sim.evals.leaderboard_sources import read_sources
from wfm_sim.evals.physics.generate import GenerateSettings, generate
from wfm_sim.evals.physics.score import ScoreSettings, score
from wfm_sim.evals.physics.showing import CELL, RECORDING, show
from wfm_sim.evals.submission import read_submission

SETTINGS = ScoreSettings(context=9, frames=12, seeds=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PhysicsData:
    # between them, these have boxes, spheres, cylinders, capsules or cones, a plane, and hinges
    root = tmp_path_factory.mktemp("physics")
    settings = GenerateSettings(("free_fall", "seesaw"), episodes=1, views=2, frames=12, size=(64, 64), seed=5)
    generate(root / "data", settings, 1, lambda done, total: None)
    return open_physics(root / "data")


@pytest.fixture(scope="module")
def run(data: PhysicsData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "still"
    score("repeat-last", data, out, SETTINGS)
    return out


def test_a_run_is_shown(run: Path, data: PhysicsData, tmp_path: Path) -> None:
    submission = show(run, data)
    assert read_submission(run / "submission.json") == submission
    assert submission.kind == "physics" and submission.id == "physics-repeat-last-9"
    metrics = {m.name: m for m in submission.metrics}
    summary = json.loads((run / "summary.json").read_text())
    assert metrics["iou"].estimate.value == summary["all"]["iou"]["value"]
    assert metrics["iou"].baselines["tracker on the truth"].value == summary["all"]["floor"]["value"]
    assert metrics["iou_seesaw"].estimate.value == summary["scenes"]["seesaw"]["iou"]["value"]
    assert metrics["dreamsim"].estimate.value is None and metrics["dreamsim"].estimate.unscored

    clip = read_video(run / "clips/free_fall-00000.mp4")
    assert clip.shape == (12, 2 * CELL, 4 * CELL, 3)
    truth, made, apart = (clip[:, :, i * CELL : (i + 1) * CELL].astype(int) for i in range(3))
    assert np.abs(truth[:9] - made[:9]).mean() < 3 and apart[:9].mean() < 3  # given frames, but for the encoder
    assert apart[11].mean() > 2 * apart[8].mean()  # then things move and the prediction does not
    assert (run / RECORDING).stat().st_size > 10_000

    build([run], tmp_path / "site")
    page = (tmp_path / "site" / "index.html").read_text()
    assert "Physics alignment" in page and "IoU: seesaw" in page


def test_the_recording_has_bodies_cameras_and_pictures(run: Path, data: PhysicsData) -> None:
    show(run, data)
    command = [str(Path(sys.executable).parent / "rerun"), "rrd", "stats", str(run / RECORDING)]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    paths = {line.split(":")[0] for line in found.splitlines() if line.startswith("/")}
    bodies = {f"/world/free_fall_00000/{name}" for name in data.episode("free_fall", 0).names}
    assert bodies <= paths
    assert {"/world/seesaw_00000/cameras/1", "/truth/0", "/prediction/1"} <= paths


def test_a_run_without_clips_is_on_the_board_too(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "summary.json").write_bytes((run / "summary.json").read_bytes())
    (source,) = read_sources([copy])
    assert source.submission.kind == "physics" and not source.submission.clips


def test_other_data_or_another_model_is_refused(run: Path, data: PhysicsData, tmp_path: Path) -> None:
    other = GenerateSettings(("free_fall", "seesaw"), episodes=1, views=1, frames=12, size=(64, 64), seed=6)
    generate(tmp_path / "other", other, 1, lambda done, total: None)
    with pytest.raises(UserError, match="another data set"):
        show(run, tmp_path / "other")
    with pytest.raises(UserError, match="is not what was scored"):
        show(run, data, model=f"data:{tmp_path / 'other'}")
    with pytest.raises(UserError, match="is not what was scored"):
        show(run, data, model="flow")
    with pytest.raises(UserError, match=r"summary\.json"):
        show(tmp_path / "nothing", data)
