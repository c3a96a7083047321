"""The table of agreement: laws that hold are found to hold, broken ones are found broken."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from wfm_sim.assets.physics import Trajectory, build
from wfm_sim.cli_physics_engines import choose
from wfm_sim.envs.physics import simulate
from wfm_sim.errors import UserError
from wfm_sim.evals.physics.agreement import agreement, read_scene, table
from wfm_sim.evals.physics.agreement_table import markdown, print_table
from wfm_sim.evals.physics.sheet import contact_sheets


def slowed(run: Trajectory, factor: float) -> Trajectory:
    """The same path, run through `factor` times as slowly: every acceleration falls with its square."""
    at = np.clip(np.arange(len(run)) * factor, 0, len(run) - 1)
    low = np.minimum(at.astype(int), len(run) - 2)
    part = (at - low)[:, None, None]

    def blend(values: np.ndarray) -> np.ndarray:
        return values[low] * (1 - part) + values[low + 1] * part

    turns = blend(run.quaternions)
    turns /= np.linalg.norm(turns, axis=-1, keepdims=True)
    return dataclasses.replace(
        run,
        positions=blend(run.positions),
        quaternions=turns,
        linear=factor * blend(run.linear),
        angular=factor * blend(run.angular),
    )


@pytest.mark.parametrize(
    ("name", "quantity", "expected"),
    [
        ("free_fall", "g in free fall", 9.81 * 0.64),
        ("planar_slope", "acceleration", None),
        ("u_slope", "time to the bottom", None),
        ("gyroscope", "precession", None),
    ],
)
def test_a_slowed_world_is_caught(name: str, quantity: str, expected: float | None) -> None:
    scene = build(name, 2)
    run = simulate(scene, 33)
    readings = [
        r for r in read_scene(scene, {"true": run, "slow": slowed(run, 0.8)}) if r.quantity.startswith(quantity)
    ]
    moving = [reading for reading in readings if reading.expected]
    assert moving
    for reading in moving:
        assert reading.tolerance is not None
        assert reading.error("true") < reading.tolerance < reading.error("slow")  # type: ignore[operator]
        if expected:
            assert reading.values["slow"] == pytest.approx(expected, rel=0.02)


def test_engines_that_part_are_told_apart() -> None:
    scene = build("dominoes", 0)
    run = simulate(scene, 33)
    rows = table(read_scene(scene, {"true": run, "slow": slowed(run, 0.6)}))
    by_name = {row.quantity: row for row in rows}
    assert by_name["topple in order (1)"].kept
    assert by_name["frame at which each topples"].kept is False
    assert by_name["agree until frame"].values["slow"] < 32
    same = table(read_scene(scene, {"a": run, "b": run}))
    assert {row.quantity: row for row in same}["agree until frame"].values["b"] == 32
    assert "BROKEN" in markdown(rows)
    assert "BROKEN" not in markdown(same)


def test_stacks_are_judged() -> None:
    scene = build("unstable_stack", 0)
    run = simulate(scene, 33)
    frozen = dataclasses.replace(
        run, positions=np.broadcast_to(run.positions[:1], run.positions.shape), quaternions=run.quaternions[[0] * 33]
    )
    (reading, *_) = read_scene(scene, {"true": run, "frozen": frozen})
    assert (reading.error("true"), reading.error("frozen")) == (0.0, 1.0)


def test_the_whole_command_on_one_engine(capsys: pytest.CaptureFixture[str]) -> None:
    rows = table(agreement(["planar_slope"], [0, 1], ["mujoco"]))
    assert all(row.kept is not False for row in rows)
    print_table(rows)
    assert "rolling sphere" in capsys.readouterr().out


def test_contact_sheets(tmp_path: Path) -> None:
    from PIL import Image

    (path,) = contact_sheets(tmp_path, ["gyroscope"], [0], 32, masks=True)
    with Image.open(path) as sheet:
        assert sheet.size == (9 * 36, 4 * 46)
        assert np.asarray(sheet).std() > 10


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'seesaw'"):
        choose("seasaw")
    with pytest.raises(UserError, match="at least one seed"):
        agreement(["seesaw"], [], ["mujoco"])
    with pytest.raises(UserError, match="soft_drop"):
        agreement(["soft_drop"], [0], ["mujoco"])
    with pytest.raises(UserError, match="16 pixels"):
        contact_sheets(tmp_path, ["seesaw"], [0], 8)
    with pytest.raises(UserError, match="at least one seed"):
        contact_sheets(tmp_path, ["seesaw"], [], 32)
    assert len(choose("all")) == 8
