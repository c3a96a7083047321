"""What the engines do with a scene, against theory; pictures and masks; engines that are absent."""

import numpy as np
import pytest
from numpy.typing import NDArray

from wfm_sim.assets.physics import Scene, build
from wfm_sim.assets.physics.mjspec import damping, restitution_of
from wfm_sim.assets.physics.rollout import roll_out
from wfm_sim.assets.physics.scene import rotation
from wfm_sim.envs.physics import Renderer, Trajectory, engine_version, isaac, simulate
from wfm_sim.envs.physics.isaac_runner import mask_of, parse
from wfm_sim.errors import UserError

ENGINES = ["mujoco", "physx"]


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """Every engine in turn; PhysX is skipped where its packages are absent."""
    if request.param == "physx":
        pytest.importorskip("ovphysx", reason="ovphysx is not installed: the extra `physx`")
        pytest.importorskip("pxr", reason="usd-core is not installed: the extra `physx`")
    return str(request.param)


def parabola(times: NDArray[np.float64], values: NDArray[np.float64]) -> float:
    """The acceleration of a uniformly accelerated motion."""
    return float(2 * np.polyfit(times, values, 2)[0])


def test_free_fall_shows_g_and_keeps_its_spin(engine: str) -> None:
    scene = build("free_fall", 0)
    run = simulate(scene, 12, 24, engine)
    assert run.times[-1] < scene.parameters["first_contact"]  # type: ignore[operator]
    for i in range(len(run.names)):
        assert -parabola(run.times, run.positions[:, i, 2]) == pytest.approx(9.81, rel=0.005)
    # Angular momentum is conserved, in the world's axes, though the angular velocity need not be.
    inertia = np.array([body.inertia for body in scene.dynamic])
    turns = rotation(run.quaternions.reshape(-1, 4)).as_matrix().reshape(*run.quaternions.shape[:2], 3, 3)
    momentum = np.einsum("tnij,nj,tnkj,tnk->tni", turns, inertia, turns, run.angular)
    scale = np.linalg.norm(momentum[0], axis=-1).max()
    np.testing.assert_allclose(momentum, np.broadcast_to(momentum[0], momentum.shape), atol=0.02 * scale)


def test_slopes_accelerate_as_theory_says(engine: str) -> None:
    scene = build("planar_slope", 2)
    run = simulate(scene, 24, 24, engine)
    angle = float(scene.parameters["angle"])
    along = np.array([np.cos(angle), 0.0, -np.sin(angle)])
    assert {str(scene.parameters[f"kind_{i}"]) for i in range(len(run.names))} >= {"box", "sphere"}
    for i in range(len(run.names)):
        expected = float(scene.parameters[f"acceleration_{i}"])
        assert parabola(run.times, run.positions[:, i] @ along) == pytest.approx(expected, rel=0.02, abs=0.02)


def test_the_gyroscope_precesses_as_theory_says(engine: str) -> None:
    scene = build("gyroscope", 1)
    run = simulate(scene, 25, 24, engine)
    for i in range(len(run.names)):
        axis = rotation(run.quaternions[:, i]).apply([0.0, 0.0, 1.0])
        rate = np.polyfit(run.times, np.unwrap(np.arctan2(axis[:, 1], axis[:, 0])), 1)[0]
        assert rate == pytest.approx(float(scene.parameters[f"precession_{i}"]), rel=0.01)


def test_dominoes_topple_in_order(engine: str) -> None:
    scene = build("dominoes", 1)
    run = simulate(scene, 33, 24, engine)
    lean = np.arccos(np.clip(1 - 2 * (run.quaternions[..., 1] ** 2 + run.quaternions[..., 2] ** 2), -1, 1))
    over = lean > float(scene.parameters["topple_angle"])
    first = np.where(over.any(axis=0), over.argmax(axis=0), 99)
    assert list(first) == sorted(first)
    assert first[-1] < 33
    assert not over[0].any()


def test_stacks_stand_or_fall_as_they_should(engine: str) -> None:
    for name in ("stable_stack", "unstable_stack"):
        scene = build(name, 0)
        run = simulate(scene, 33, 24, engine)
        stands = np.min(run.positions[-1, :, 2] - run.positions[0, :, 2]) > -0.1
        assert stands == bool(scene.parameters["stands"])


def test_a_trajectory_is_deterministic_and_whole(engine: str) -> None:
    scene = build("seesaw", 0)
    first, again = simulate(scene, 14, 24, engine), simulate(scene, 14, 24, engine)
    for name in ("positions", "quaternions", "linear", "angular"):
        values = getattr(first, name)
        assert values.dtype == np.float64
        assert values.shape[:2] == (14, 3)
        np.testing.assert_array_equal(values, getattr(again, name))
    np.testing.assert_allclose(np.linalg.norm(first.quaternions, axis=-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(first.positions[0], [body.position for body in scene.dynamic], atol=1e-5)
    # Velocities are the derivatives of positions.
    falling = first.names.index("striker")
    speed = np.gradient(first.positions[:7, falling, 2], first.times[:7])[1:-1]
    np.testing.assert_allclose(first.linear[1:6, falling, 2], speed, atol=0.03)


def test_restitution_is_what_was_asked_for() -> None:
    import dataclasses

    from wfm_sim.assets.physics.solids import solid

    scene = build("free_fall", 0)
    floor = scene.body("floor")
    for wanted in (0.2, 0.5, 0.9):
        ball = solid("ball", "sphere", (0.2,), scene.materials[0].name, (0, 0, 1.2), restitution=wanted)
        run = roll_out(dataclasses.replace(scene, bodies=(floor, ball)), 13, 24)
        # It falls a metre in 0.452 s, just before the last frame; its energy is then wanted^2 of that of the fall.
        energy = 9.81 * (run.positions[-1, 0, 2] - 0.2) + run.linear[-1, 0, 2] ** 2 / 2
        assert np.sqrt(energy / 9.81) == pytest.approx(wanted, abs=0.04)
    assert restitution_of(0.0) == pytest.approx(1.0)
    assert restitution_of(1.0) == pytest.approx(np.exp(-2))
    assert restitution_of(damping(0.3) / 600) == pytest.approx(0.3)
    assert damping(0.0) == damping(0.03) > damping(0.5) > damping(1.0) == 0.0


@pytest.mark.parametrize("name", ["newtons_cradle", "pusher", "soft_drop"])
def test_the_extension_set_runs(name: str) -> None:
    scene = build(name, 1)
    run = simulate(scene, 20)
    assert run.names == scene.names
    assert np.isfinite(run.positions).all()
    assert np.linalg.norm(run.positions[-1] - run.positions[0], axis=-1).max() > 0.2
    assert run.positions[..., 2].min() > 0
    if name == "soft_drop":
        assert run.nodes is not None
        jelly = run.names.index("jelly")
        np.testing.assert_allclose(run.nodes.mean(axis=1), run.positions[:, jelly])
        heights = np.ptp(run.nodes[..., 2], axis=1)
        assert heights.min() < 0.97 * heights[0]  # it squashes


@pytest.fixture(scope="module")
def thrown() -> tuple[Scene, Trajectory]:
    """A scene and its first frames."""
    scene = build("free_fall", 2)
    return scene, simulate(scene, 5)


def test_masks_are_where_the_bodies_are(thrown: tuple[Scene, Trajectory]) -> None:
    scene, run = thrown
    with Renderer(scene, 200, 160) as renderer:
        for view, camera in enumerate(scene.cameras):
            picture, mask = renderer.render(run, 4, view)
            assert picture.shape == (160, 200, 3)
            assert picture.dtype == mask.dtype == np.uint8
            assert set(np.unique(mask)) <= set(range(len(run.names) + 1))
            rows, columns = np.nonzero(mask)
            assert len(rows)
            for i, position in enumerate(run.positions[4]):
                seen = camera.intrinsics(200, 160) @ (camera.extrinsics() @ [*position, 1.0])[:3]
                own = np.argwhere(mask == i + 1)
                if len(own) > 80:  # its centre lies within its outline's box
                    x, y = seen[:2] / seen[2]
                    assert own[:, 1].min() - 2 < x < own[:, 1].max() + 2
                    assert own[:, 0].min() - 2 < y < own[:, 0].max() + 2
            # The sky is up, objects are coloured, the world is greyish.
            assert np.ptp(picture[rows, columns].astype(int), axis=1).mean() > 60
            assert np.ptp(picture[mask == 0].astype(int), axis=1).mean() < 60


def test_rendering_is_deterministic_and_objects_are_large(thrown: tuple[Scene, Trajectory]) -> None:
    scene, run = thrown
    pictures = []
    for _ in range(2):
        with Renderer(scene, 128, 128) as renderer:
            pictures.append(renderer.render(run, 0, 0))
    np.testing.assert_array_equal(pictures[0][0], pictures[1][0])
    mask = pictures[0][1]
    for i in range(len(run.names)):
        rows, columns = np.nonzero(mask == i + 1)
        assert max(np.ptp(rows), np.ptp(columns)) + 1 >= 128 / 12


def test_soft_bodies_have_masks_too() -> None:
    scene = build("soft_drop", 1)
    run = simulate(scene, 2)
    with Renderer(scene, 96, 96) as renderer:
        _, mask = renderer.render(run, 1, 0)
    assert set(np.unique(mask)) == {0, 1, 2}


def test_bad_input(thrown: tuple[Scene, Trajectory]) -> None:
    scene, run = thrown
    with pytest.raises(UserError, match="unknown physics backend 'mujocco'; did you mean 'mujoco'"):
        simulate(scene, backend="mujocco")
    with pytest.raises(UserError, match="not 0 at"):
        simulate(scene, frames=0)
    with pytest.raises(UserError, match="not 0x64"):
        Renderer(scene, 0, 64)
    with Renderer(scene, 32, 32) as renderer:
        with pytest.raises(UserError, match=r"views 0\.\.3, not 4"):
            renderer.render(run, 0, 4)
        with pytest.raises(UserError, match=r"frames 0\.\.4, not 5"):
            renderer.render(run, 5, 0)
        other = simulate(build("gyroscope", 0), 1)
        with pytest.raises(UserError, match="the trajectory moves"):
            renderer.render(other, 0, 0)


def test_soft_bodies_are_for_mujoco() -> None:
    with pytest.raises(UserError, match="soft"):
        simulate(build("soft_drop", 0), 2, backend="physx")


def test_an_absent_engine_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins
    import importlib.util

    from wfm_sim.envs.physics import physx

    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name.split(".")[0] == "ovphysx":
            raise ImportError("No module named 'ovphysx'")
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    scene = build("gyroscope", 0)
    physx._physx.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", without)
        with pytest.raises(UserError, match=r"wfm-sim\[physx\]"):
            simulate(scene, 2, backend="physx")
        patch.setattr(physx, "version", lambda name: "1.0")
        with pytest.raises(UserError, match="mujoco-usd"):
            simulate(scene, 2, backend="physx")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="RTX"):
        simulate(scene, 2, backend="isaac")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.delenv(isaac.EULA, raising=False)
    with pytest.raises(UserError, match="licence"):
        simulate(scene, 2, backend="isaac")
    with pytest.raises(UserError, match="unknown physics backend"):
        engine_version("bullet")
    assert engine_version("mujoco").startswith("mujoco ")


def test_what_isaac_writes_is_understood() -> None:
    numbers = np.array([[0, 3], [4, 7]])
    paths = {"0": "BACKGROUND", "3": "/World/Dynamic/a/shape0_look", "4": "/World/Dynamic/ab", "7": "/World/Dynamic/a"}
    mask = mask_of(numbers, paths, ["/World/Dynamic/a", "/World/Dynamic/ab"])
    np.testing.assert_array_equal(mask, [[0, 1], [2, 1]])
    options = parse(["s.usda", "out", "--bodies", "/World/Dynamic/a", "--size", "64", "48", "--cameras", "view0"])
    assert (options.frames, options.size, options.cameras) == (100, [64, 48], ["view0"])
