"""Clips for the tests of the laws: small, without shadows, and what a corrupted engine would have shown instead."""

from dataclasses import replace
from functools import cache

import numpy as np

from wfm_sim.assets.physics import Body, Scene, Trajectory, build
from wfm_sim.envs.physics import Renderer, simulate
from wfm_sim.evals.physics.laws import Clip, Measurement, measure
from wfm_sim.evals.physics.laws_calibration import Verdict, load_thresholds, verdicts

SIZE, FRAMES = 112, 33


class Stage:
    """A scene, how it moves, and one view of it."""

    def __init__(self, name: str, seed: int, view: int) -> None:
        scene = build(name, seed)
        self.scene = replace(scene, lights=tuple(replace(light, shadow=False) for light in scene.lights))
        self.view, self.camera = view, scene.cameras[view]
        self.truth = simulate(self.scene, FRAMES)
        self.renderer = Renderer(self.scene, SIZE, SIZE)
        self.frames, self.masks = self.render(self.truth)

    def render(self, trajectory: Trajectory) -> tuple[np.ndarray, np.ndarray]:
        """Frames and masks of any motion of the scene's bodies."""
        pairs = [self.renderer.render(trajectory, t, self.view) for t in range(FRAMES)]
        return np.stack([frame for frame, _ in pairs]), np.stack([mask for _, mask in pairs])

    def clip(self, context: int = 1) -> Clip:
        """The truth."""
        K = self.camera.intrinsics(SIZE, SIZE)
        return Clip(self.scene, K, self.camera.extrinsics(), self.truth, self.masks, context)

    def masks_of(self, scene: Scene) -> np.ndarray:
        """Masks of what happens in a scene with the same bodies and other physics."""
        return self.render(simulate(scene, FRAMES))[1]

    def moved(self, **changes: np.ndarray) -> np.ndarray:
        """Masks of the true trajectory with some of its arrays exchanged."""
        return self.render(replace(self.truth, **changes))[1]

    def measure(self, masks: np.ndarray, context: int = 1) -> list[Measurement]:
        """Of a video with these masks."""
        return measure(self.clip(context), masks)

    def judge(self, masks: np.ndarray, context: int = 1) -> dict[str, Verdict]:
        """By law, with the shipped thresholds."""
        found = verdicts(self.measure(masks, context), load_thresholds(), self.scene.name, SIZE, context)
        return {verdict.law: verdict for verdict in found}


@cache
def stage(name: str, seed: int, view: int = 0) -> Stage:
    """One per process: it holds a renderer."""
    return Stage(name, seed, view)


def broken(judged: dict[str, Verdict]) -> set[str]:
    """Names of the laws that are broken."""
    return {law for law, verdict in judged.items() if verdict.broken}


def with_body(scene: Scene, name: str, **changes: object) -> Scene:
    """The scene with one body changed."""
    return replace(scene, bodies=tuple(replace(b, **changes) if b.name == name else b for b in scene.bodies))  # type: ignore[arg-type]


def with_shapes(scene: Scene, name: str, **changes: object) -> Scene:
    """The scene with all shapes of one body changed."""
    body = scene.body(name)
    return with_body(scene, name, shapes=tuple(replace(shape, **changes) for shape in body.shapes))  # type: ignore[arg-type]


def bodies_of(scene: Scene, kind: str) -> list[Body]:
    """Dynamic bodies whose first shape is of a kind."""
    return [body for body in scene.dynamic if body.shapes[0].kind == kind]
