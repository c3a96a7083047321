"""A data set of drawn episodes: a red and a blue disc move over a mottled floor, no engine needed."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from wfm_sim.data.physics import FORMAT, VERSION, PhysicsData, Poses, View, open_physics
from wfm_sim.data.physics_writer import write_physics_episode

T, H, W = 14, 64, 80
RADIUS = 8.0
COLOURS = ((205, 40, 35), (40, 70, 210))


def draw(centres: list[tuple[float, float]], shade: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [H, W, 3] and uint8 [H, W] labels of discs at (x, y); later ones lie on top."""
    rng = np.random.default_rng(1)
    floor = 130 + 40 * cv2.resize(rng.normal(size=(8, 10)).astype(np.float32), (W, H), interpolation=cv2.INTER_CUBIC)
    frame = np.repeat(np.clip(floor, 60, 220)[..., None], 3, axis=2) * (1.0, 0.97, 0.9)
    mask = np.zeros((H, W), np.uint8)
    rows, columns = np.mgrid[:H, :W]
    for x, y in centres:
        shadow = np.hypot(columns - x, (rows - y - 14) * 2) < RADIUS
        frame[shadow] *= 0.6
    for i, (x, y) in enumerate(centres):
        inside = np.hypot(columns - x, rows - y) < RADIUS
        light = 0.75 + 0.25 * np.clip(1 - np.hypot(columns - x + 3, rows - y + 3) / (2 * RADIUS), 0, 1)
        frame[inside] = (light[..., None] * COLOURS[i % 2] * shade)[inside]
        mask[inside] = i + 1
    return np.clip(frame, 0, 255).astype(np.uint8), mask


def centres(scene: str, index: int, view: int, t: int) -> list[tuple[float, float]]:
    """Where the two discs are: 'fall' accelerates, 'cross' passes one behind the other."""
    if scene == "fall":
        return [(20.0 + 8 * index, 9.0 + 0.25 * t * t + view), (58.0 - view, 10.0 + 0.2 * t * t)]
    return [(12.0 + 4.2 * t, 30.0 + index), (66.0 - 3.9 * t, 31.0 + view)]


def write_data(root: Path, speed: float = 1.0, engine: str = "drawn", seed: int = 0) -> PhysicsData:
    """Two scenes of two episodes of two views; `speed` stretches time."""
    scenes = ("fall", "cross")
    for scene in scenes:
        for index in range(2):
            clips = [
                [draw(centres(scene, index, view, speed * t)) for t in range(T)]  # type: ignore[arg-type]
                for view in range(2)
            ]
            write_physics_episode(
                root,
                scene,
                index,
                seed=seed + index,
                fps=24,
                size=(H, W),
                cameras=[View(f"cam{view}", np.eye(3), np.eye(4)) for view in range(2)],
                scene={"name": scene},
                motion=Poses(np.arange(T) / 24, *[np.zeros((T, 2, n)) for n in (3, 4, 3, 3)], ("red", "blue")),
                render=lambda view, t, clips=clips: clips[view][t],
            )
    manifest = {"format": FORMAT, "version": VERSION, "complete": True, "hash": f"sha256:{engine}{speed}"}
    manifest |= {"settings": {"scenes": scenes}, "engine": {"name": engine, "version": "1"}, "renderer": {}}
    (root / "manifest.json").write_text(json.dumps(manifest))
    return open_physics(root)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> PhysicsData:
    return write_data(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="session")
def faster(tmp_path_factory: pytest.TempPathFactory) -> PhysicsData:
    """The same episodes by another engine, in which time runs 6 % faster."""
    return write_data(tmp_path_factory.mktemp("faster"), speed=1.06, engine="hasty")
