"""Structure from motion of tiny clips, whole scores, and what happens when SfM dies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from wfm_sim.camera import Intrinsics
from wfm_sim.errors import UserError
from wfm_sim.evals.consistency import ConsistencySettings, Reconstruction, SfmSettings, corruptions, score_clip, sfm
from wfm_sim.evals.consistency.clips import NamedClip


def score(clip: NamedClip, settings: ConsistencySettings, frames: np.ndarray | None = None, **more):  # type: ignore[no-untyped-def]
    given = {"intrinsics": clip.intrinsics, "commanded": clip.commanded, **more}
    return score_clip(clip.frames if frames is None else frames, settings=settings, **given)


def test_a_true_clip_is_recovered_by_both_mappers_and_twice_the_same(
    clean: NamedClip, quick: ConsistencySettings, tmp_path: Path
) -> None:
    checked = replace(quick, sfm=replace(quick.sfm, incremental=True))
    one, two = (score(clean, checked) for _ in range(2))
    assert one.pose_success and one.applicable and one.score == 1
    assert (one.registered, one.models, one.mapper, one.incremental_registered) == (7, (7,), "global", 7)
    assert one.rotation_error_mean < 0.1
    assert one.ate < 0.01
    assert one.reprojection < 0.25
    assert one.mapper_disagreement < 0.1
    same = {k: v for k, v in one.to_json().items() if k != "seconds"}
    assert same == {k: v for k, v in two.to_json().items() if k != "seconds"}
    first, second = one.reconstruction, two.reconstruction
    assert isinstance(first, Reconstruction)
    for name in ("poses", "points", "colours", "frame_index"):
        assert getattr(first, name).tobytes() == getattr(second, name).tobytes()
    first.save(tmp_path / "one.npz")
    with np.load(tmp_path / "one.npz") as saved:
        assert set(saved) == {"poses", "frame_index", "points", "colours", "intrinsics", "size", "aligned"}
        assert saved["points"].shape == (one.points, 3)
    # the aligned points lie in the room, in metres
    points = first.aligned(first.points)  # type: ignore[misc]
    assert (np.abs(np.median(points, axis=0)) < 4).all()


def test_unknown_intrinsics_are_found(clean: NamedClip, quick: ConsistencySettings) -> None:
    found = score(clean, quick, intrinsics=None)
    assert found.pose_success
    assert found.focal == pytest.approx(clean.intrinsics.fx, rel=0.1)  # type: ignore[union-attr]
    assert found.rotation_error_mean < 0.5


def test_warps_jitter_and_swaps_show(clean: NamedClip, other: NamedClip, quick: ConsistencySettings) -> None:
    true = score(clean, quick)
    warped = score(clean, quick, corruptions.rubber_sheet(clean.frames, 1))
    assert warped.reprojection > 2 * true.reprojection
    assert warped.sampson_median > 3 * true.sampson_median
    assert warped.rotation_error_mean > 5 * true.rotation_error_mean
    swapped = score(clean, quick, corruptions.swap(clean.frames, other.frames))
    assert not swapped.pose_success
    assert swapped.score == 0
    assert swapped.coverage < 0.6


def test_clips_that_cannot_be_judged(clean: NamedClip, panned: NamedClip, quick: ConsistencySettings) -> None:
    for clip, frames in ((clean, corruptions.frozen(clean.frames)), (panned, panned.frames)):
        found = score(clip, quick, frames)
        assert (found.applicable, found.pose_success, found.pose_success_loose, found.score) == (False, False, False, 0)
        assert found.counted == (clip is clean)  # told to move, and did not
        assert "sfm" not in found.seconds or found.seconds["sfm"] < 0.1  # nothing to reconstruct
    blank = score_clip(np.full((5, 64, 64, 3), 128, np.uint8), settings=quick)
    assert not blank.applicable


def test_masks_reach_sfm(clean: NamedClip, moving_mask: np.ndarray, quick: ConsistencySettings) -> None:
    """A block that stays on the screen while the camera walks spoils SfM, unless it is masked."""
    frames = clean.frames.copy()
    frames[:, 20:90, 30:110] = clean.frames[:1, 40:110, 60:140]
    moving_mask[:, 15:95, 25:115] = True
    masked = score(clean, quick, frames, masks=moving_mask)
    bare = score(clean, quick, frames)
    assert masked.pose_success, masked.reason
    assert masked.rotation_error_mean < 0.2
    assert not bare.pose_success or bare.rotation_error_mean > 5 * masked.rotation_error_mean


@pytest.mark.parametrize(
    ("code", "seconds", "said"),
    [
        (
            "import os; os.write(2, b'E0101 x.cc:1] Check failed: bad'); os.abort()",
            60,
            "(SIGABRT): Check failed: bad",
        ),
        ("import time; time.sleep(60)", 0.05, "SfM took longer than 1 s"),
        ("import os; os.kill(os.getpid(), 24)", 60, "SfM was killed (after 60 s of CPU, or for want of memory)"),
        ("raise SystemExit(3)", 60, "SfM died (exit code 3)"),
    ],
)
def test_sfm_that_dies_is_one_failed_clip(
    clean: NamedClip,
    quick: ConsistencySettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    seconds: float,
    said: str,
) -> None:
    (tmp_path / "dying_worker.py").write_text(code)
    monkeypatch.setattr(sfm, "WORKER", "dying_worker")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = score(clean, replace(quick, sfm=replace(quick.sfm, seconds=seconds)))
    assert (found.crashed, found.pose_success, found.score) == (True, False, 0)
    assert found.reason.endswith(said)
    assert found.sampson_median is not None  # the rest is scored


def test_small_and_large_frames_are_scaled_for_features() -> None:
    settings = SfmSettings()
    assert sfm.feature_scale((240, 320), settings) == 1
    assert sfm.feature_scale((96, 128), settings) == 2
    assert sfm.feature_scale((1936, 1296), settings) == pytest.approx(1600 / 1936)


def test_bad_input(clean: NamedClip, quick: ConsistencySettings) -> None:
    for frames, more, said in (
        (clean.frames[:1], {}, "1 frame: 3D consistency needs at least two"),
        (clean.frames.astype(np.float32), {}, "expected uint8"),
        (clean.frames, {"intrinsics": Intrinsics.of_fov(50, (48, 64))}, "intrinsics are for 64x48"),
        (clean.frames, {"commanded": clean.commanded[:3]}, "3 commanded poses for 7 frames"),  # type: ignore[index]
        (clean.frames, {"commanded": 2 * clean.commanded}, "not orthonormal"),  # type: ignore[operator]
        (clean.frames, {"masks": np.zeros((7, 4, 4), bool)}, "masks are bool"),
    ):
        with pytest.raises(UserError, match=said):
            score_clip(frames, settings=quick, **more)  # type: ignore[arg-type]
