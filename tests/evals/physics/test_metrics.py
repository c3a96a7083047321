"""IoU by hand, and means whose intervals are resampled scene by scene."""

import numpy as np
import pytest

from wfm_sim.evals.physics.metrics import frame_iou, mean_known, object_iou, stratified_mean


def test_object_iou_by_hand() -> None:
    truth, found = np.zeros((3, 4, 4), np.uint8), np.zeros((3, 4, 4), np.uint8)
    truth[0, 0] = 1  # 4 pixels, 2 of them found, 1 more beside them: 2 / 5
    found[0, 0, :2] = found[0, 1, 0] = 1
    truth[0, 3, :2] = found[0, 3, :2] = 2
    found[1, 2] = 1  # not in the truth: left out
    truth[2, 0] = 2  # found as the other object
    found[2, 0] = 1
    values = object_iou(truth, found, 2)
    assert np.allclose(values, [[0.4, 1.0], [np.nan, np.nan], [np.nan, 0.0]], equal_nan=True)
    assert frame_iou(truth, found, 2) == [pytest.approx(0.7), None, 0.0]


def test_objects_that_the_first_mask_does_not_show_are_left_out() -> None:
    truth = np.zeros((2, 4, 4), np.uint8)
    truth[:, 0] = 1
    truth[1, 2] = 2
    found = np.where(truth == 1, truth, 0)
    assert frame_iou(truth, found, 2) == [1.0, 1.0]


def test_labels_that_are_no_object_count_as_background() -> None:
    truth = np.ones((1, 2, 2), np.uint8)
    assert object_iou(truth, np.full((1, 2, 2), 9, np.uint8), 1) == 0
    with pytest.raises(ValueError, match="differ in shape"):
        object_iou(truth, np.ones((1, 2, 3), np.uint8), 1)


def test_means_skip_what_is_not_known() -> None:
    assert mean_known([1.0, None, 3.0]) == 2.0
    assert mean_known([None]) is None and mean_known([]) is None


def test_stratified_intervals_know_nothing_of_the_difference_between_scenes() -> None:
    rng = np.random.default_rng(0)
    strata = {name: centre + rng.normal(0, 0.02, 40) for name, centre in (("a", 0.1), ("b", 0.9), ("c", 0.5))}
    found = stratified_mean(strata)
    assert found.value == pytest.approx(np.mean([v.mean() for v in strata.values()]))
    assert found.n == 120 and found.low is not None and found.high is not None
    expected = 2 * 1.96 * 0.02 / np.sqrt(120)
    assert found.high - found.low == pytest.approx(expected, rel=0.25)
    assert found.low < found.value < found.high
    # One scene with ten times the episodes weighs no more than another.
    many = stratified_mean({"a": np.zeros(100), "b": np.ones(10)})
    assert many.value == 0.5


def test_intervals_of_few_episodes_cover_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    covered = []
    for trial in range(120):
        found = stratified_mean({name: rng.normal(0.5, 0.1, 4) for name in "abcd"}, seed=trial)
        assert found.low is not None and found.high is not None
        covered.append(found.low <= 0.5 <= found.high)
    assert np.mean(covered) > 0.9


def test_few_episodes_have_no_interval_and_none_no_value() -> None:
    assert stratified_mean({"a": [0.5], "b": [0.7, 0.8]}).low is None
    assert stratified_mean({"a": [], "b": []}).unscored == "no values"
    assert stratified_mean({"a": [0.5, 0.6], "b": []}).n == 2
