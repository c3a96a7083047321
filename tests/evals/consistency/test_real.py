"""Real photographs against COLMAP's cameras, and real video of a camera that stands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from wfm_sim.evals.consistency import ConsistencySettings, SfmSettings, score_clip
from wfm_sim.evals.consistency.clips import Cameras, ReadOptions, open_clips
from wfm_sim.evals.consistency.run import evaluate


@pytest.mark.slow
def test_photographs_of_a_door_are_recovered(real_data: Path) -> None:
    source = open_clips(real_data / "scene_lund_door")
    assert isinstance(source, Cameras)
    clip = source.load(0)
    assert clip.frames.shape == (12, 1936, 1296, 3)
    settings = ConsistencySettings(sfm=SfmSettings(max_size=800, incremental=False), synthesis=False)
    found = score_clip(clip.frames, intrinsics=clip.intrinsics, commanded=clip.commanded, settings=settings)
    assert (found.registered, found.models, found.pose_success) == (12, (12,), True)
    assert found.rotation_error_mean is not None and found.rotation_error_mean < 0.2
    assert found.translation_error is not None and found.translation_error < 0.01
    assert found.pair_coverage == 1


def test_a_camera_that_stands_is_not_applicable(real_data: Path, tmp_path: Path, quick: ConsistencySettings) -> None:
    for i in (1, 2):
        (tmp_path / f"clips/{i}.mp4").parent.mkdir(exist_ok=True)
        (tmp_path / f"clips/{i}.mp4").symlink_to(real_data / f"bridge_simpler/bridge_real_{i}.mp4")
    settings = replace(quick, sfm=replace(quick.sfm, max_size=320))
    summary = evaluate(tmp_path / "clips", tmp_path / "out", settings, ReadOptions(frames=5))
    assert summary["clips"]["not_applicable"] == 2
    assert summary["clips"]["counted"] == 0
    assert list(summary["clips"]["reasons"]) == ["not applicable: the camera does not move"]
    assert summary["metrics"]["pose_success"]["unscored"] == "no clip is applicable"
