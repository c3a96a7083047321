"""Do the engines obey the laws that the scenes are about, and do they agree with each other?

Every scene is simulated by every engine from one description. Where theory has an exact answer, each engine's own is
compared with it; where it has none (stacks, the seesaw after the blow), the engines are compared with each other, and
`agree_until` says for how long they keep within a twelfth of the motion's extent: after that chaos has set in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wfm_sim.assets.physics import FPS, Scene, Trajectory, build
from wfm_sim.assets.physics.framing import FRAMES
from wfm_sim.assets.physics.scene import rotation
from wfm_sim.envs.physics import simulate
from wfm_sim.errors import UserError, unknown

Array = NDArray[np.float64]
CLEAR = 0.7  # metres: bodies whose centres are further apart do not touch
APART = 1 / 12  # of the extent of the motion: engines further apart than this have parted


@dataclass(frozen=True)
class Reading:
    """One quantity of one scene and seed, by engine.

    `expected` is the analytic value, or None where only the engines are compared; `unit` may be ''. `tolerance` is what
    the benchmark promises: relative to `expected` when `relative`, else in the unit.
    """

    scene: str
    seed: int
    quantity: str
    unit: str
    values: dict[str, float]
    expected: float | None
    tolerance: float | None = None
    relative: bool = True

    def error(self, engine: str) -> float | None:
        """How far an engine's value is from the expected one; None when there is none."""
        if self.expected is None:
            return None
        gap = abs(self.values[engine] - self.expected)
        return gap / abs(self.expected) if self.relative else gap


def read_scene(scene: Scene, runs: Mapping[str, Trajectory]) -> list[Reading]:
    """All readings of a scene from its trajectories by engine name (33 frames or more)."""
    return [*LAWS[scene.name](scene, runs), *_parting(scene, runs)]


def agreement(
    scenes: Sequence[str], seeds: Sequence[int], engines: Sequence[str], progress: Callable[[str], None] | None = None
) -> list[Reading]:
    """Readings of all scenes and seeds. `progress` is called with the name of each scene that is done.

    Raises:
        UserError: unknown scene, no seeds, or an engine that is absent.
    """
    for name in scenes:
        if name not in LAWS:
            raise unknown("physics scene", name, LAWS)
    if not seeds:
        raise UserError("agreement needs at least one seed")
    readings = []
    for name in scenes:
        for seed in seeds:
            scene = build(name, seed)
            readings += read_scene(scene, {engine: simulate(scene, FRAMES, FPS, engine) for engine in engines})
        if progress:
            progress(name)
    return readings


@dataclass(frozen=True)
class Row:
    """One line of the table: a quantity of a scene over all seeds.

    `worst` by engine: the largest error (relative or in `unit`), None where there is no expected value. `values` by
    engine: the mean. `between`: the largest difference between any two engines, in the unit. `kept`: whether every
    engine keeps the promised tolerance; None when nothing was promised.
    """

    scene: str
    quantity: str
    unit: str
    count: int
    values: dict[str, float]
    worst: dict[str, float] | None
    relative: bool
    between: float
    tolerance: float | None
    kept: bool | None


def table(readings: Sequence[Reading]) -> list[Row]:
    """Readings gathered by scene and quantity, in the order of their first appearance."""
    groups: dict[tuple[str, str], list[Reading]] = {}
    for reading in readings:
        groups.setdefault((reading.scene, reading.quantity), []).append(reading)
    rows = []
    for (scene, quantity), group in groups.items():
        first = group[0]
        engines = list(first.values)
        spreads = [max(r.values.values()) - min(r.values.values()) for r in group]
        worst = None
        if first.expected is not None:
            worst = {engine: max(error for r in group if (error := r.error(engine)) is not None) for engine in engines}
        tolerance, kept = first.tolerance, None
        if tolerance is not None:
            kept = (max(worst.values()) if worst else max(spreads)) <= tolerance
        means = {engine: float(np.mean([r.values[engine] for r in group])) for engine in engines}
        rows.append(
            Row(scene, quantity, first.unit, len(group), means, worst, first.relative, max(spreads), tolerance, kept)
        )
    return rows


def _each(runs: Mapping[str, Trajectory], measure: Callable[[Trajectory], float]) -> dict[str, float]:
    return {engine: float(measure(run)) for engine, run in runs.items()}


def _acceleration(times: Array, values: Array) -> float:
    """The second derivative of the parabola through `values`."""
    return float(2 * np.polyfit(times, values, 2)[0])


def _free_fall(scene: Scene, runs: Mapping[str, Trajectory]) -> list[Reading]:
    readings = []
    falling = float(scene.parameters["first_contact"])
    for i, name in enumerate(scene.names):

        def gravity(run: Trajectory, i: int = i) -> float:
            air = run.times < falling
            return -_acceleration(run.times[air], run.positions[air, i, 2])

        values = _each(runs, gravity)
        readings.append(
            Reading(scene.name, scene.seed, "g in free fall", "m/s2", values, float(scene.parameters["g"]), 0.005)
        )
        if name.startswith("sphere"):
            expected = float(scene.parameters[f"restitution_{i}"])
            bounces = _each(runs, lambda run, i=i: _restitution(run, i))  # type: ignore[misc]
            if not any(np.isnan(value) for value in bounces.values()):
                readings.append(
                    Reading(scene.name, scene.seed, "restitution of spheres", "", bounces, expected, 0.05, False)
                )
    return readings


def _restitution(run: Trajectory, body: int) -> float:
    """Speed after the first bounce over that before, from the parabolas on both sides; NaN where there are none."""
    speed = run.linear[:, body, 2]
    hit = int(np.argmax(np.diff(speed) > 0.5)) + 1  # the first frame after the bounce
    if hit < 3 or hit + 2 >= len(speed) or np.any(np.diff(speed[hit : hit + 3]) > 0):
        return float("nan")
    others = np.delete(run.positions[hit - 1 : hit + 2], body, axis=1) - run.positions[hit - 1 : hit + 2, [body]]
    if np.any(np.linalg.norm(others, axis=-1) < CLEAR):
        return float("nan")  # it may have hit a neighbour
    g = 9.81
    before, after = (run.positions[f, body, 2] for f in (hit - 1, hit))
    down, up = speed[hit - 1], speed[hit]
    floor = _touch_height(run, body, hit)
    return float(np.sqrt(up**2 + 2 * g * (after - floor)) / np.sqrt(down**2 + 2 * g * (before - floor)))


def _touch_height(run: Trajectory, body: int, hit: int) -> float:
    """Height of the centre at which the falling and the rising parabola meet within the frame's interval."""
    step = run.times[1] - run.times[0]
    t = np.linspace(0.0, step, 2001)
    down = run.positions[hit - 1, body, 2] + run.linear[hit - 1, body, 2] * t - 9.81 / 2 * t**2
    back = t - step
    up = run.positions[hit, body, 2] + run.linear[hit, body, 2] * back - 9.81 / 2 * back**2
    return float(down[np.argmin(np.abs(down - up))])


def _planar_slope(scene: Scene, runs: Mapping[str, Trajectory]) -> list[Reading]:
    angle = float(scene.parameters["angle"])
    along = np.array([np.cos(angle), 0.0, -np.sin(angle)])
    readings = []
    for i in range(len(scene.names)):
        expected = float(scene.parameters[f"acceleration_{i}"])
        leaves = float(scene.parameters[f"ramp_time_{i}"]) or np.inf

        def acceleration(run: Trajectory, i: int = i, leaves: float = leaves) -> float:
            on = run.times < leaves - 0.04
            return _acceleration(run.times[on], run.positions[on, i] @ along)

        kind = {"box": "sliding box"}.get(
            str(scene.parameters[f"kind_{i}"]), f"rolling {scene.parameters[f'kind_{i}']}"
        )
        values = _each(runs, acceleration)
        if expected:
            quantity = f"acceleration, {kind}"
            readings.append(Reading(scene.name, scene.seed, quantity, "m/s2", values, expected, 0.02))
        else:
            quantity = "acceleration, box that sticks"
            readings.append(Reading(scene.name, scene.seed, quantity, "m/s2", values, 0.0, 0.02, relative=False))
    return readings


def _u_slope(scene: Scene, runs: Mapping[str, Trajectory]) -> list[Reading]:
    readings = []
    for i in range(len(scene.names)):

        def passage(run: Trajectory, i: int = i) -> float:
            return _crossing(run.times, run.positions[:, i, 0])

        values = _each(runs, passage)
        if scene.parameters["shared_lane"] and i >= len(scene.names) - 2:
            continue  # these two meet before, or while, they pass
        expected = float(scene.parameters[f"bottom_time_{i}"])
        quantity = f"time to the bottom, {scene.parameters[f'kind_{i}']}"
        readings.append(Reading(scene.name, scene.seed, quantity, "s", values, expected, 0.05))
    return readings


def _crossing(times: Array, values: Array) -> float:
    """When `values` first changes sign, linearly between frames; NaN when it does not."""
    turned = np.flatnonzero(values[:-1] * values[1:] <= 0)
    if not len(turned):
        return float("nan")
    k = int(turned[0])
    return float(times[k] + (times[k + 1] - times[k]) * values[k] / (values[k] - values[k + 1]))


def _stack(scene: Scene, runs: Mapping[str, Trajectory]) -> list[Reading]:
    def stands(run: Trajectory) -> float:
        return float(np.min(run.positions[-1, :, 2] - run.positions[0, :, 2]) > -0.1)

    expected = float(scene.parameters["stands"])
    readings = [
        Reading(scene.name, scene.seed, "stands (1) or falls (0)", "", _each(runs, stands), expected, 0.0, False)
    ]
    if not expected:
        first = int(scene.parameters["joint"]) + 1

        def tips(run: Trajectory) -> float:
            lean = np.rad2deg(_lean(run, first))
            return float(np.argmax(lean > 10.0)) if np.any(lean > 10.0) else float("nan")

        values = _each(runs, tips)
        readings.append(
            Reading(scene.name, scene.seed, "frame at which it leans by 10 degrees", "frames", values, None)
        )
    return readings


def _lean(run: Trajectory, body: int) -> Array:
    """Angle between the body's z axis and where it pointed at the start: float64 [T], radians."""
    axis = rotation(run.quaternions[:, body]).apply([0.0, 0.0, 1.0])
    return np.asarray(np.arccos(np.clip(axis @ axis[0], -1.0, 1.0)))


def _dominoes(scene: Scene, runs: Mapping[str, Trajectory]) -> list[Reading]:
    angle = float(scene.parameters["topple_angle"])

    def frames(run: Trajectory) -> Array:
        over = np.stack([_lean(run, i) > angle for i in range(len(run.names))])
        return np.where(over.any(axis=1), np.argmax(over, axis=1), np.inf)

    def in_order(run: Trajectory) -> float:
        done = frames(run)
        return float(
            np.all(np.diff(done[np.isfinite(done)]) >= 0) and np.all(np.diff(np.isfinite(done).astype(int)) <= 0)
        )

    readings = [Reading(scene.name, scene.seed, "topple in order (1)", "", _each(runs, in_order), 1.0, 0.0, False)]
    by_engine = {engine: frames(run) for engine, run in runs.items()}
    for i in range(len(scene.names)):
        values = {engine: float(done[i]) for engine, done in by_engine.items()}
        if all(np.isfinite(value) for value in values.values()):
            readings.append(Reading(scene.name, scene.seed, "frame at which each topples", "frames", values, None, 5.0))
    return readings


def _seesaw(scene: Scene, runs: Mapping[str, Trajectory]) -> list[Reading]:
    plank = scene.names.index("plank")

    def rate(run: Trajectory) -> float:
        return float(np.max(np.abs(run.angular[:, plank, 1])))

    readings = []
    if scene.parameters["variant"] == "tip":

        def start(run: Trajectory) -> float:
            return float(np.polyfit(run.times[:4], run.angular[:4, plank, 1], 2)[1])

        expected = float(scene.parameters["acceleration"])
        values = _each(runs, start)
        readings.append(
            Reading(scene.name, scene.seed, "angular acceleration at the start", "rad/s2", values, expected)
        )
    readings.append(Reading(scene.name, scene.seed, "largest rate of the plank", "rad/s", _each(runs, rate), None))
    return readings


def _gyroscope(scene: Scene, runs: Mapping[str, Trajectory]) -> list[Reading]:
    readings = []
    for i in range(len(scene.names)):

        def precession(run: Trajectory, i: int = i) -> float:
            axis = rotation(run.quaternions[:, i]).apply([0.0, 0.0, 1.0])
            return float(np.polyfit(run.times, np.unwrap(np.arctan2(axis[:, 1], axis[:, 0])), 1)[0])

        def tilt(run: Trajectory, i: int = i) -> float:
            axis = rotation(run.quaternions[:, i]).apply([0.0, 0.0, 1.0])
            return float(np.rad2deg(np.arccos(axis[-1, 2])))

        expected = float(scene.parameters[f"precession_{i}"])
        readings.append(Reading(scene.name, scene.seed, "precession", "rad/s", _each(runs, precession), expected, 0.01))
        lean = float(np.rad2deg(float(scene.parameters[f"tilt_{i}"])))
        readings.append(
            Reading(scene.name, scene.seed, "tilt at the end", "degrees", _each(runs, tilt), lean, None, False)
        )
    return readings


def _newtons_cradle(scene: Scene, runs: Mapping[str, Trajectory]) -> list[Reading]:
    raised = int(scene.parameters["raised"]) - 1  # the ball that arrives first

    def arrival(run: Trajectory) -> float:
        shift = run.positions[:, raised, 0] - _foot(scene, raised)
        return _crossing(run.times, shift)

    expected = float(scene.parameters["arrival_time"])
    return [Reading(scene.name, scene.seed, "arrival of the raised balls", "s", _each(runs, arrival), expected, 0.05)]


def _foot(scene: Scene, body: int) -> float:
    """x of the joint that a body hangs from."""
    return next(joint.anchor[0] for joint in scene.joints if joint.body == scene.names[body])


def _pusher(scene: Scene, runs: Mapping[str, Trajectory]) -> list[Reading]:
    bar = scene.names.index("bar")

    def speed(run: Trajectory) -> float:
        return float(np.polyfit(run.times, run.positions[:, bar, 0], 1)[0])

    expected = float(scene.parameters["speed"])
    return [Reading(scene.name, scene.seed, "speed of the bar", "m/s", _each(runs, speed), expected, 0.02)]


def _parting(scene: Scene, runs: Mapping[str, Trajectory]) -> list[Reading]:
    """For how long every engine keeps close to the first."""
    engines = list(runs)
    if len(engines) < 2:
        return []
    first = runs[engines[0]]
    extent = float(np.max(np.ptp(first.positions.reshape(-1, 3), axis=0)))
    readings = {engines[0]: float(len(first) - 1)}
    for engine in engines[1:]:
        apart = np.linalg.norm(runs[engine].positions - first.positions, axis=-1).max(axis=1) > APART * extent
        readings[engine] = float(np.argmax(apart) - 1 if apart.any() else len(first) - 1)
    return [Reading(scene.name, scene.seed, "agree until frame", "frames", readings, None)]


LAWS: dict[str, Callable[[Scene, Mapping[str, Trajectory]], list[Reading]]] = {
    "free_fall": _free_fall,
    "planar_slope": _planar_slope,
    "u_slope": _u_slope,
    "stable_stack": _stack,
    "unstable_stack": _stack,
    "dominoes": _dominoes,
    "seesaw": _seesaw,
    "gyroscope": _gyroscope,
    # Of the extension set: the soft body has one engine only.
    "newtons_cradle": _newtons_cradle,
    "bowl": lambda scene, runs: [],
    "pusher": _pusher,
}
