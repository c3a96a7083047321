"""A corrupted truth is caught by the law that it breaks, and the truth breaks none."""

from dataclasses import replace

import numpy as np
import pytest

from tests.evals.physics.law_clips import FRAMES, bodies_of, broken, stage, with_body, with_shapes
from wfm_sim.assets.physics import SCENES, build
from wfm_sim.envs.physics import simulate
from wfm_sim.errors import UserError
from wfm_sim.evals.physics.laws import OF_SCENE, measure


def first_seed(name: str, wanted) -> int:  # type: ignore[no-untyped-def]
    """The first seed of a scene with some property."""
    return next(seed for seed in range(100) if wanted(build(name, seed)))


def value(measured, law: str, subject: str = "") -> float:  # type: ignore[no-untyped-def]
    found = [m for m in measured if m.law == law and subject in ("", m.subject) and m.found.value is not None]
    assert found, f"{law} was not measured"
    return float(found[0].found.value)


def tracker_noise(masks: np.ndarray, seed: int) -> np.ndarray:
    """Masks with outlines that are a pixel off here and there, as a tracker's are."""
    rng = np.random.default_rng(seed)
    out = masks.copy()
    for axis, step in ((1, 1), (1, -1), (2, 1), (2, -1)):
        neighbour = np.roll(masks, step, axis)
        swap = (neighbour != masks) & (rng.uniform(size=masks.shape) < 0.15)
        out[swap] = neighbour[swap]
    out[0] = masks[0]
    return out


@pytest.mark.parametrize("name", SCENES)
def test_the_truth_breaks_no_law(name: str) -> None:
    for seed, view, context in ((3, 0, 1), (2, 2, 9)):
        place = stage(name, seed, view)
        judged = place.judge(tracker_noise(place.masks, seed), context)
        assert broken(judged) == set()
        assert {law for law, v in judged.items() if v.broken is False} & set(SCENE_LAWS[name])


SCENE_LAWS = {
    "free_fall": ("gravity",),
    "planar_slope": ("slope_acceleration",),
    "u_slope": ("bottom_time", "energy_kept"),
    "stable_stack": ("stands",),
    "unstable_stack": ("stands",),
    "dominoes": ("topple_time",),
    "seesaw": ("tilt_rate",),
    "gyroscope": ("precession",),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENES)
def test_the_tracked_truth_breaks_no_law(name: str) -> None:
    from wfm_sim.evals.physics.tracking import track

    for seed, view in ((1, 0), (2, 2), (3, 1)):
        place = stage(name, seed, view)
        found = track(place.frames, place.masks[0])
        for context in (1, 9):
            assert broken(place.judge(found, context)) == set(), (seed, view, context)


def test_measurements_are_those_of_theory() -> None:
    """From the true masks alone: g, friction, the time to the bottom, precession."""
    fall = stage("free_fall", 1)
    for m in fall.measure(fall.masks):
        if m.law == "gravity" and m.found.value is not None:
            assert m.found.value == pytest.approx(9.81, abs=1.0) and m.found.low < m.found.value < m.found.high
    slope = stage("planar_slope", 1)
    for m in slope.measure(slope.masks):
        if m.law in ("friction", "slope_acceleration") and m.found.value is not None:
            assert m.found.value == pytest.approx(m.expected, abs=0.1)
    pipe = stage("u_slope", 3)
    assert all(m.found.value == pytest.approx(m.expected, abs=0.06)
               for m in pipe.measure(pipe.masks) if m.law == "bottom_time" and not m.unscored)  # fmt: skip
    tops = stage("gyroscope", 1)
    for m in tops.measure(tops.masks):
        if m.law == "precession":
            assert m.found.value == pytest.approx(m.expected, rel=0.1)


@pytest.mark.parametrize("context", [1, 9])
def test_an_object_deleted_half_way(context: int) -> None:
    place = stage("planar_slope", 1)
    masks = place.masks.copy()
    masks[16:][masks[16:] == 1] = 0
    judged = place.judge(masks, context)
    assert broken(judged) == {"permanence"}
    assert judged["permanence"].worst.found.value == FRAMES - 16  # type: ignore[union-attr]
    assert judged["permanence"].worst.subject == place.truth.names[0]  # type: ignore[union-attr]


def test_an_object_in_two_pieces() -> None:
    place = stage("planar_slope", 1)
    masks = place.masks.copy()
    rows, columns = np.nonzero(masks[0] == 1)
    corner = (slice(0, np.ptp(rows) + 1), slice(0, np.ptp(columns) + 1))
    masks[10:][(slice(None), *corner)] = 1
    assert "permanence" in broken(place.judge(masks))


def test_gravity_halved() -> None:
    place = stage("free_fall", 1)
    x, y, z = place.scene.gravity
    masks = place.masks_of(replace(place.scene, gravity=(x, y, z / 2)))
    judged = place.judge(masks)
    assert "gravity" in broken(judged) and not {"permanence", "time_order", "smoothness"} & broken(judged)
    for m in place.measure(masks):
        if m.law == "gravity" and m.found.value is not None:
            assert m.found.value == pytest.approx(9.81 / 2, abs=0.6)


def test_gravity_halved_after_the_context() -> None:
    """The given frames are true and the velocity goes on; only what pulls changes."""
    place = stage("free_fall", 1)
    state = place.truth
    late = replace(
        place.scene,
        gravity=(0.0, 0.0, -9.81 / 2),
        bodies=tuple(
            replace(b, position=tuple(state.positions[8, i]), quaternion=tuple(state.quaternions[8, i]),
                    linear=tuple(state.linear[8, i]), angular=tuple(state.angular[8, i]))
            if b.dynamic and (i := place.scene.names.index(b.name)) >= 0 else b
            for b in place.scene.bodies
        ),
    )  # fmt: skip
    after = simulate(late, FRAMES - 8)
    whole = {key: np.concatenate([getattr(state, key)[:8], getattr(after, key)])
             for key in ("positions", "quaternions", "linear", "angular")}  # fmt: skip
    masks = place.moved(**whole)
    assert np.array_equal(masks[:9], place.masks[:9])
    judged = place.judge(masks, context=9)
    assert "gravity" in broken(judged)
    assert judged["gravity"].worst.found.value == pytest.approx(9.81 / 2, abs=1.5)  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["free_fall", "planar_slope", "u_slope", "dominoes", "gyroscope"])
def test_played_backwards(name: str) -> None:
    place = stage(name, 3 if name == "dominoes" else 1)
    from_the_end = np.concatenate([place.masks[:1], place.masks[:0:-1]])
    assert "time_order" in broken(place.judge(from_the_end))


def test_turning_back_after_the_given_frames() -> None:
    place = stage("planar_slope", 1)
    back = np.maximum(np.where(np.arange(FRAMES) < 9, np.arange(FRAMES), 16 - np.arange(FRAMES)), 0)
    assert {"time_order", "slope_acceleration"} <= broken(place.judge(place.masks[back], context=9))


def test_backwards_things_rise_by_themselves() -> None:
    place = stage("planar_slope", 1)
    masks = np.concatenate([place.masks[:1], place.masks[:0:-1]])
    judged = place.judge(masks)
    assert {"time_order", "energy"} <= broken(judged)


@pytest.mark.parametrize("name", ["free_fall", "planar_slope", "dominoes"])
def test_frames_shuffled(name: str) -> None:
    place = stage(name, 3 if name == "dominoes" else 1)
    order = np.concatenate([[0], 1 + np.random.default_rng(0).permutation(FRAMES - 1)])
    judged = place.judge(place.masks[order])
    assert "smoothness" in broken(judged) and judged["smoothness"].worst.found.value > 2  # type: ignore[union-attr]


def test_gravity_doubled_on_the_slope() -> None:
    place = stage("planar_slope", 1)
    x, y, z = place.scene.gravity
    judged = place.judge(place.masks_of(replace(place.scene, gravity=(x, y, 2 * z))))
    assert {"slope_acceleration", "energy"} <= broken(judged)


def sliding(scene) -> list:  # type: ignore[no-untyped-def,type-arg]
    """Boxes that slide with a friction so low that twice of it still lets them."""
    tan = np.tan(scene.parameters["angle"])
    return [b for b in bodies_of(scene, "box") if 0.15 * tan < b.shapes[0].friction < 0.45 * tan]


def test_friction_doubled() -> None:
    place = stage("planar_slope", first_seed("planar_slope", sliding))
    box = sliding(place.scene)[0]
    mu = box.shapes[0].friction
    masks = place.masks_of(with_shapes(place.scene, box.name, friction=2 * mu))
    assert broken(place.judge(masks)) == {"friction", "slope_acceleration"}
    assert value(place.measure(masks), "friction", box.name) == pytest.approx(2 * mu, abs=0.02)


def test_a_sphere_that_does_not_bounce_as_it_should() -> None:
    scored = []
    for seed in range(20):  # the first in which a bounce is seen whole
        if any(0.3 < ball.shapes[0].restitution < 0.6 for ball in bodies_of(build("free_fall", seed), "sphere")):
            place = stage("free_fall", seed)
            scored = [m for m in place.measure(place.masks) if m.law == "restitution" and not m.unscored]
            if scored:
                break
    assert scored[0].found.value == pytest.approx(scored[0].expected, abs=0.06)
    ball = scored[0].subject
    masks = place.masks_of(with_shapes(place.scene, ball, restitution=0.9))
    judged = place.judge(masks)
    assert "restitution" in broken(judged) and not {"gravity", "permanence", "time_order"} & broken(judged)
    assert value(place.measure(masks), "restitution", ball) == pytest.approx(0.9, abs=0.06)


def test_a_floor_that_does_not_hold() -> None:
    """What falls through it is not seen any more: nothing else can be said from one camera."""
    place = stage("free_fall", 1)
    judged = place.judge(place.masks_of(with_shapes(place.scene, "floor", collides=False)))
    assert "permanence" in broken(judged) and "gravity" not in broken(judged)


def test_a_half_pipe_that_brakes() -> None:
    place = stage("u_slope", 3)
    slow = np.round(np.arange(FRAMES) * 0.7).astype(int)
    assert "bottom_time" in broken(place.judge(place.masks[slow]))
    bottom = round(24 * max(float(v) for k, v in place.scene.parameters.items() if k.startswith("bottom_time")))
    stops = np.minimum(np.arange(FRAMES), bottom)
    judged = place.judge(place.masks[stops])
    assert "energy_kept" in broken(judged) and judged["energy_kept"].worst.found.value < 0.6  # type: ignore[union-attr]


def test_balls_that_pass_through_each_other() -> None:
    place = stage("u_slope", first_seed("u_slope", lambda scene: scene.parameters["shared_lane"]))
    alone = []
    for gone in place.truth.names[-2:]:
        rest = replace(place.scene, bodies=tuple(b for b in place.scene.bodies if b.name != gone))
        alone.append(simulate(rest, FRAMES))
    other, one = alone  # without the last but one, without the last
    positions, turns = place.truth.positions.copy(), place.truth.quaternions.copy()
    positions[:, -2:] = np.stack([one.positions[:, -1], other.positions[:, -1]], axis=1)
    turns[:, -2:] = np.stack([one.quaternions[:, -1], other.quaternions[:, -1]], axis=1)
    judged = place.judge(place.moved(positions=positions, quaternions=turns))
    assert "penetration" in broken(judged)


def test_a_stable_stack_that_falls() -> None:
    place = stage("stable_stack", 1)
    top = place.scene.dynamic[-1].name
    judged = place.judge(place.masks_of(with_body(place.scene, top, linear=(1.5, 0.0, 0.0))))
    assert "stands" in broken(judged) and judged["stands"].worst.found.value == 0  # type: ignore[union-attr]


def test_an_unstable_stack_that_stands_or_falls_late() -> None:
    place = stage("unstable_stack", 1)
    frozen = place.judge(np.repeat(place.masks[:1], FRAMES, axis=0))
    assert "stands" in broken(frozen) and frozen["stands"].worst.found.value == 1  # type: ignore[union-attr]
    late = np.maximum(np.arange(FRAMES) - 6, 0)
    judged = place.judge(place.masks[late])
    assert "fall_time" in broken(judged) and "stands" not in broken(judged)
    assert judged["fall_time"].worst.deviation == pytest.approx(6 / 24, abs=0.02)  # type: ignore[union-attr]


def test_a_domino_that_is_skipped() -> None:
    place = stage("dominoes", 3)
    positions, turns = place.truth.positions.copy(), place.truth.quaternions.copy()
    positions[:, 1], turns[:, 1] = positions[:1, 1], turns[:1, 1]
    masks = place.moved(positions=positions, quaternions=turns)
    judged = place.judge(masks)
    assert {"topple_time", "topple_order"} <= broken(judged)
    assert judged["topple_time"].worst.subject == place.truth.names[1]  # type: ignore[union-attr]


def test_a_seesaw_that_tips_the_other_way() -> None:
    place = stage("seesaw", first_seed("seesaw", lambda scene: scene.parameters["variant"] == "tip"))
    rider, striker = (place.scene.body(name) for name in ("rider", "striker"))
    swapped = with_body(place.scene, "rider", mass=striker.mass, inertia=striker.inertia)
    swapped = with_body(swapped, "striker", mass=rider.mass, inertia=rider.inertia)
    masks = place.masks_of(swapped)
    judged = place.judge(masks)
    assert {"tilt_rate", "tilt"} <= broken(judged)
    true = value(place.measure(place.masks), "tilt_rate")
    assert value(place.measure(masks), "tilt_rate") * true < 0
    assert np.sign(true) == np.sign(place.scene.parameters["acceleration"])


def test_a_gyroscope_that_turns_the_other_way() -> None:
    place = stage("gyroscope", 1)
    scene = place.scene
    for body in scene.dynamic:
        scene = with_body(scene, body.name, linear=tuple(-v for v in body.linear),
                          angular=tuple(-v for v in body.angular))  # fmt: skip
    masks = place.masks_of(scene)
    assert "precession" in broken(place.judge(masks))
    for m in place.measure(masks):
        if m.law == "precession":
            assert m.found.value == pytest.approx(-m.expected, rel=0.15)


def test_what_cannot_be_measured_says_why() -> None:
    place = stage("planar_slope", 1)
    masks = place.masks.copy()
    masks[3:][masks[3:] == 1] = 0
    gone = [m for m in place.measure(masks) if m.law == "slope_acceleration" and m.subject == place.truth.names[0]]
    assert gone[0].found.value is None and "frames on the ramp in sight" in gone[0].unscored
    assert gone[0].deviation is None and gone[0].to_json()["found"]["unscored"]
    still = place.judge(np.repeat(place.masks[:1], FRAMES, axis=0))
    assert still["time_order"].broken is None and still["time_order"].unscored == "nothing moves in the video"
    assert "slope_acceleration" in broken(still)


def test_every_scene_has_laws_and_bad_input_gets_one_sentence() -> None:
    assert set(OF_SCENE) == set(SCENES) == set(SCENE_LAWS)
    place = stage("planar_slope", 1)
    with pytest.raises(UserError, match=r"masks are uint8 \[33, 56, 112\], expected uint8 \[33, 112, 112\]"):
        measure(place.clip(), place.masks[:, ::2])
    with pytest.raises(UserError, match="a context of 33 frames leaves nothing to judge in 33 frames"):
        measure(place.clip(33), place.masks)
