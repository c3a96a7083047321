"""The parts: epipolar errors, parallax, poses, similarity, verdicts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from wfm_sim.camera import Intrinsics, move
from wfm_sim.evals.consistency import corruptions
from wfm_sim.evals.consistency.clips import NamedClip
from wfm_sim.evals.consistency.matches import Features, detect, match
from wfm_sim.evals.consistency.parallax import Parallax, measure
from wfm_sim.evals.consistency.poses import compare, rotation_angles
from wfm_sim.evals.consistency.sampson import CAP, Sampson, canvas_scale, sampson, sampson_errors
from wfm_sim.evals.consistency.sfm import Reconstruction, SfmResult
from wfm_sim.evals.consistency.similarity import Similarity, umeyama
from wfm_sim.evals.consistency.verdict import judge


def random_poses(rng: np.random.Generator, count: int) -> np.ndarray:
    poses = np.tile(np.eye(4), (count, 1, 1))
    poses[:, :3, :3] = Rotation.random(count, rng=rng).as_matrix()
    poses[:, :3, 3] = rng.normal(size=(count, 3))
    return poses


def of(frames: np.ndarray) -> Sampson:
    return sampson(detect(frames), (frames.shape[1], frames.shape[2]))


def test_the_sampson_error_is_the_distance_to_the_nearest_match_that_fits(rng: np.random.Generator) -> None:
    """For a small error, eq. 11.9 is the distance in R^4 to {(x, y): y^T F x = 0}."""
    from scipy.optimize import minimize

    F = rng.normal(size=(3, 3))
    x = rng.normal(size=2)
    line = F @ [*x, 1]
    y = -line[2] * line[:2] / (line[:2] @ line[:2])  # a match that fits exactly
    a, b = x + rng.normal(size=2) * 1e-4, y + rng.normal(size=2) * 1e-4

    def far(p: np.ndarray) -> float:
        return float(((p - np.concatenate([a, b])) ** 2).sum())

    fits = {"type": "eq", "fun": lambda p: np.array([*p[2:], 1]) @ F @ np.array([*p[:2], 1])}
    found = minimize(lambda p: 1e8 * far(p), np.concatenate([a, b]), constraints=fits, tol=1e-14)
    assert sampson_errors(F, a[None], b[None])[0] == pytest.approx(np.sqrt(far(found.x)), rel=1e-2)


def test_sampson_grows_with_the_warp_and_says_pixels_of_the_canvas(clean: NamedClip) -> None:
    assert canvas_scale((540, 960)) == 1
    assert canvas_scale((270, 480)) == pytest.approx(2)
    series = [of(f) for f in (clean.frames, *(corruptions.rubber_sheet(clean.frames, p) for p in (1, 2, 4)))]
    medians = [s.median for s in series]
    assert all(m is not None for m in medians)
    assert medians == sorted(medians)  # type: ignore[type-var]
    assert medians[1] > 4 * medians[0]  # type: ignore[operator]
    assert [s.coverage for s in series] == [1, 1, 1, 1]


def test_a_pair_without_geometry_is_no_perfect_pair(clean: NamedClip, other: NamedClip) -> None:
    whole, cut = of(clean.frames), of(corruptions.swap(clean.frames, other.frames))
    assert cut.cuts == ((2, 3),)
    assert cut.coverage == pytest.approx(5 / 6)
    assert cut.capped > whole.capped + 0.9 * CAP / 6
    blank = of(np.zeros((4, 64, 64, 3), np.uint8))
    assert (blank.median, blank.mean, blank.capped, blank.coverage) == (None, None, CAP, 0)


def test_wider_strides(clean: NamedClip) -> None:
    found = sampson(detect(clean.frames), (120, 160), stride=3)
    assert found.coverage == 1
    assert found.median is not None and found.median < 1


def test_features_keep_out_of_masks_and_match_across_a_shift(clean: NamedClip, moving_mask: np.ndarray) -> None:
    moving_mask[:, :, :80] = True
    for features in detect(clean.frames[:2], moving_mask[:2]):
        assert len(features.points) > 30
        assert (features.points[:, 0] >= 80).all()
    shifted = np.roll(clean.frames[0], 5, axis=1)
    a, b = match(*detect(np.stack([clean.frames[0], shifted])))
    assert np.median(b - a, axis=0) == pytest.approx([5, 0], abs=0.05)
    # positions do not depend on the scale at which features are found
    half, full = (detect(clean.frames[:1], scale=s)[0] for s in (2.0, 1.0))
    a, b = match(half, full)
    assert np.median(b - a, axis=0) == pytest.approx([0, 0], abs=0.05)
    assert match(Features(np.zeros((0, 2)), np.zeros((0, 128), np.float32)), full)[0].shape == (0, 2)


@pytest.mark.parametrize("known", [True, False])
def test_parallax_tells_a_walk_from_a_pan_and_from_a_camera_that_stands(
    clean: NamedClip, panned: NamedClip, camera: Intrinsics, known: bool
) -> None:
    k = camera if known else None

    def reason(frames: np.ndarray) -> str:
        return measure(detect(frames), frames, k).reason

    assert reason(clean.frames) == ""
    assert reason(panned.frames).startswith("no parallax")
    assert reason(corruptions.noise(panned.frames, 8)).startswith("no parallax")
    assert reason(corruptions.frozen(clean.frames)).startswith("frozen")
    standing = corruptions.noise(corruptions.frozen(clean.frames), 8)
    assert reason(standing) == "the camera does not move"
    standing[:, 30:70, 30:80] = clean.frames[:, 50:90, 40:90]  # something moves in it
    assert reason(standing) == "the camera does not move"


def test_umeyama_finds_a_similarity_and_refuses_points_that_coincide(rng: np.random.Generator) -> None:
    points = rng.normal(size=(9, 3))
    true = Similarity(2.5, Rotation.random(rng=rng).as_matrix(), rng.normal(size=3))
    found = umeyama(points, true(points))
    assert found is not None
    assert found.scale == pytest.approx(2.5)
    assert np.allclose(found.matrix, true.matrix)
    mirrored = umeyama(points, points * [1, 1, -1])  # never a reflection
    assert mirrored is None or np.linalg.det(mirrored.rotation) > 0
    assert umeyama(np.ones((4, 3)), points[:4]) is None
    assert umeyama(points[:1], points[:1]) is None


def test_pose_errors_do_not_see_the_choice_of_frame_and_scale(rng: np.random.Generator) -> None:
    true = random_poses(rng, 12)
    index = np.array([0, 2, 3, 5, 8, 11])
    moved = Similarity(0.3, Rotation.random(rng=rng).as_matrix(), rng.normal(size=3)).poses(true[index])
    exact = compare(moved, index, true)
    assert exact is not None and exact.aligned is not None
    assert exact.rotation_mean == pytest.approx(0, abs=1e-6)
    assert exact.translation == pytest.approx(0, abs=1e-9)
    assert exact.aligned.scale == pytest.approx(1 / 0.3)
    turned = moved.copy()
    turned[1:] = move(moved[1:], [0, 0, 0, 0, np.radians(2), 0])
    wrong = compare(turned, index, true)
    assert wrong is not None
    assert wrong.rotation_mean == pytest.approx(2)
    assert wrong.rotation_sum == pytest.approx(10)
    still = np.tile(np.eye(4), (12, 1, 1))
    assert compare(moved, index, still).translation is None  # type: ignore[union-attr]
    assert compare(moved[:1], index[:1], true) is None


def test_small_and_large_angles() -> None:
    for degrees in (0.0, 1e-6, 0.01, 90.0, 179.0):
        R = Rotation.from_rotvec([0, 0, np.radians(degrees)]).as_matrix()
        assert rotation_angles(R, np.eye(3)) == pytest.approx(degrees, rel=1e-6)


def fit(frames: int, *, models: tuple[int, ...] = (), points: int = 100, **more: float) -> SfmResult:
    poses = np.tile(np.eye(4), (frames, 1, 1))
    k = Intrinsics.of_fov(50, (48, 64))
    found = Reconstruction(poses, np.arange(frames), np.zeros((points, 3)), np.zeros((points, 3), np.uint8), k)
    numbers = {"reprojection": 0.2, "triangulation_angle": 5.0, **more}
    return SfmResult(found, mapper="global", models=models or (frames,), **numbers)  # type: ignore[arg-type]


PAIRS = Sampson(0.1, 0.5, 0.1, 0.98, 1.0, (), 1.0)
MOVES = Parallax(0.1, 0.05, 9, False)


@pytest.mark.parametrize(
    ("sfm", "reason"),
    [
        (fit(16), ""),
        (fit(15), ""),
        (fit(14), "14 of 16 frames registered"),
        (fit(8, models=(8, 8)), "2 models, of 8 and 8 frames"),
        (fit(16, points=29), "29 points"),
        (fit(16, triangulation_angle=1.5), "points are seen under 1.5 degrees"),
        (fit(16, reprojection=2.0), "reprojection error of 2 px"),
        (SfmResult(reason="SfM died (SIGABRT)", crashed=True), "SfM died (SIGABRT)"),
    ],
)
def test_strict_success(sfm: SfmResult, reason: str) -> None:
    found = judge(16, MOVES, PAIRS, sfm, None)
    assert (found.success, found.reason, found.applicable, found.counted) == (not reason, reason, True, True)
    assert found.loose == (sfm.reconstruction is not None)
    assert found.score == (found.coverage if found.success else 0)


def test_coverage_is_multiplied_in_and_not_applicable_is_never_a_success() -> None:
    cut = Sampson(0.1, 0.5, 0.7, 0.98, 0.95, ((3, 4),), 1.0)
    assert judge(16, MOVES, cut, fit(15), None).score == pytest.approx(0.95 * 15 / 16)
    stands = Parallax(0.0, 0.0, 9, False)
    for moved, counted in ((None, False), (0.001, False), (0.5, True)):
        found = judge(16, stands, PAIRS, None, moved)
        assert (found.applicable, found.success, found.loose, found.score) == (False, False, False, 0)
        assert found.counted == counted
        assert ("told to move" in found.reason) == counted
