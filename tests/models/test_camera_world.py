"""The WorldModel contract of camera-conditioned models, on tiny random ones: with memory, with rays alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wfm_sim.camera import MOTION_HIGH, move
from wfm_sim.errors import UserError
from wfm_sim.models import load, save
from wfm_sim.models.camera_config import CameraConfig
from wfm_sim.models.camera_world import CameraState, CameraWorldModel
from wfm_sim.models.causal_world import WorldConfig
from wfm_sim.models.depth import DepthConfig
from wfm_sim.models.presets import nano_rooms
from wfm_sim.world_model import WorldModel

RNG = np.random.default_rng(0)
SIZE = (32, 48)


def tiny(kind: str) -> WorldConfig:
    cfg = nano_rooms(memory=kind == "memory", rays="block" if kind == "block" else "concat")
    assert cfg.camera is not None
    camera = cfg.camera
    if kind == "memory":
        camera = replace(camera, points=2 * SIZE[0] * SIZE[1], depth=DepthConfig((4, 8, 8, 8)))
    dit = replace(cfg.dit, model_channels=48, num_blocks=2, num_heads=2)
    return replace(cfg, frame_size=SIZE, dit=dit, window=3, camera=camera)


@pytest.fixture(scope="module", params=["memory", "rays", "block"])
def model(request: pytest.FixtureRequest) -> CameraWorldModel:
    torch.manual_seed(0)
    m = CameraWorldModel(tiny(request.param)).eval()
    for p in m.parameters():  # zero-initialised gates would hide errors
        p.data = p.data + torch.randn_like(p) * 0.02
    return m


def _frames(batch: int, t: int = 1) -> np.ndarray:
    return RNG.integers(0, 256, (batch, t, *SIZE, 3), dtype=np.uint8)


def _motions(steps: int, batch: int) -> np.ndarray:
    return RNG.uniform(-0.1, 0.1, (steps, batch, 1, 6)).astype(np.float32)


def _walk(m: CameraWorldModel, state: CameraState, motions: np.ndarray) -> tuple[CameraState, np.ndarray]:
    frames = []
    for motion in motions:
        state, f = m.step(state, motion)
        frames.append(f)
    return state, np.stack(frames)


def _near(a: np.ndarray, b: np.ndarray) -> bool:
    """A matrix product rounds by the size of its batch: one grey level here and there."""
    off = np.abs(a.astype(int) - b)
    return bool(off.max() <= 1 and (off > 0).mean() < 1e-3)


def test_contract(model: CameraWorldModel) -> None:
    assert isinstance(model, WorldModel)
    assert model.spec.condition == "camera" and len(model.spec.condition_units) == 6
    assert np.allclose(model.spec.condition_high, MOTION_HIGH)
    state, frames = model.step(model.start(_frames(2, 3), seeds=[1, 2]), _motions(1, 2)[0])
    assert frames.shape == (2, 1, *SIZE, 3) and frames.dtype == np.uint8 and len(state) == 2


def test_pose_is_where_the_motions_lead(model: CameraWorldModel) -> None:
    motions = _motions(4, 2)
    origin = move(np.eye(4), [1, 2, 3, 0.1, 0.2, 0.3])
    state = model.start(_frames(2), poses=np.broadcast_to(origin, (2, 1, 4, 4)))
    state, _ = _walk(model, state, motions)
    expected = origin
    for m in motions[:, 1, 0]:
        expected = move(expected, m)
    assert np.allclose(state.info(1)["camera_pose"], expected)
    k = state.info(1)["camera_intrinsics"]
    assert k == pytest.approx([0.649519 * 48, 0.866025 * 32, 24, 16], rel=1e-5)


def test_forks_and_neighbours_change_nothing(model: CameraWorldModel) -> None:
    frames, motions = _frames(3), _motions(5, 3)
    state, early = _walk(model, model.start(frames, seeds=[1, 2, 3]), motions[:3])
    kept = state.clone()
    _, late = _walk(model, state, motions[3:])
    _, again = _walk(model, kept, motions[3:])
    assert np.array_equal(late, again)
    alone, first = _walk(model, model.start(frames[[2]], seeds=[3]), motions[:3, [2]])
    assert _near(first[:, 0], early[:, 2])
    mixed = CameraState.cat([alone, state[[0]], state[np.array([False, True, False])]])
    _, regrouped = _walk(model, mixed, motions[3:][:, [2, 0, 1]])
    assert _near(regrouped, late[:, [2, 0, 1]])


def test_frames_depend_on_the_camera(model: CameraWorldModel) -> None:
    state = model.start(_frames(1))
    still = np.zeros((1, 1, 6), np.float32)
    turned = still.copy()
    turned[..., 4] = 0.2
    _, a = model.step(state, still)
    _, b = model.step(state, turned)
    assert not np.array_equal(a, b)
    narrow = model.start(_frames(1) * 0 + 90, intrinsics=[90.0, 90.0, 24.0, 16.0])
    assert narrow.info(0)["camera_intrinsics"].tolist() == [90, 90, 24, 16]


def test_files(model: CameraWorldModel, tmp_path: Path) -> None:
    save(model, tmp_path / "m.safetensors", about={"recipe": "tiny"})
    loaded = load(tmp_path / "m.safetensors", dtype=torch.float32)
    assert isinstance(loaded, CameraWorldModel) and loaded.cfg == model.cfg
    frames, motions = _frames(1), _motions(2, 1)
    assert np.array_equal(
        _walk(model, model.start(frames), motions)[1], _walk(loaded, loaded.start(frames), motions)[1]
    )


def test_memory_shows_the_start_again_and_does_not_grow() -> None:
    torch.manual_seed(0)
    m = CameraWorldModel(tiny("memory")).eval()  # untrained: what the memory shows passes through unchanged
    frames = np.repeat(np.linspace(40, 200, SIZE[1]).astype(np.uint8)[None, None, None, :, None], SIZE[0], axis=2)
    frames = np.repeat(frames, 3, axis=-1)
    depth = np.full((1, 1, *SIZE), 2.0, np.float32)
    state = m.start(frames, depth=depth)
    assert state.memory is not None
    shown = m.drawn(state.memory, state.pose, state.intrinsics)
    assert (shown.image[0].permute(1, 2, 0).numpy() - frames[0, 0]).__abs__().max() < 0.5
    there = np.array([[[0.1, 0, 0, 0, 0.1, 0]]], np.float32)
    size = state.memory.points.shape
    for _ in range(20):
        for motion in (there, -there):
            state, _ = m.step(state, motion)
    assert state.memory.points.shape == size
    back = m.drawn(state.memory, np.eye(4)[None], state.intrinsics)
    inner = slice(4, -4)
    assert np.abs(back.image[0].permute(1, 2, 0).numpy() - frames[0, 0])[inner, inner].mean() < 4


def test_given_depth_decides_the_parallax() -> None:
    torch.manual_seed(0)
    m = CameraWorldModel(tiny("memory")).eval()
    frames = RNG.integers(0, 256, (1, 1, *SIZE, 3), dtype=np.uint8)
    aside = np.array([[[0.2, 0, 0, 0, 0, 0]]], np.float32)
    shown = []
    for metres in (0.7, 10.0):
        state = m.start(frames, depth=np.full((1, 1, *SIZE), metres, np.float32))
        shown.append(m.look(state, aside).drawn)
    near, far = (int((~d.seen).sum()) for d in shown if d is not None)
    assert near > far + 3 * SIZE[0]  # f / z * 0.2 m: 8 columns come in at 0.7 m, half of one at 10 m


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"poses": np.eye(4)}, "poses: expected"),
        ({"poses": np.diag([1, 1, 2.0, 1])[None, None]}, "not orthonormal"),
        ({"intrinsics": [1, 2, 3]}, "intrinsics: expected"),
        ({"intrinsics": [-1, 2, 3, 4]}, "intrinsics: expected"),
        ({"intrinsics": "wide"}, "intrinsics: expected"),
        ({"depth": np.ones((1, 3, 3), np.float32)}, "depth: expected"),
    ],
)
def test_wrong_cameras_are_refused(model: CameraWorldModel, told: dict[str, object], says: str) -> None:
    with pytest.raises(UserError, match=says):
        model.start(_frames(1), **told)  # type: ignore[arg-type]


def test_sizes_that_do_not_go_together_are_refused() -> None:
    cfg = tiny("rays")
    with pytest.raises(UserError, match="extra channels"):
        CameraWorldModel(replace(cfg, anchor=False))
    with pytest.raises(UserError, match="numbers of rays"):
        CameraWorldModel(replace(tiny("block"), dit=replace(tiny("block").dit, camera_channels=5)))
    with pytest.raises(UserError, match="depth network"):
        CameraWorldModel(replace(tiny("memory"), camera=CameraConfig(points=10)))
    with pytest.raises(UserError, match="nothing of a camera"):
        CameraWorldModel(replace(cfg, camera=None))
