"""Policies without any physics: only the commanded pose moves."""

from functools import cache
from typing import Any

import numpy as np

from wfm_sim.actions import apply_action
from wfm_sim.assets.tabletop import WORKSPACE, TabletopScene, layout_of, sample_scene
from wfm_sim.policies.base import Policy


@cache
def scene_of(seed: int, task: str) -> TabletopScene:
    """Laying a scene out takes tens of milliseconds."""
    return sample_scene(seed, task)


def batched_info(seeds: list[int], task: str = "any") -> dict[str, Any]:
    """What a vector environment's reset gives for these scenes, as far as policies read it."""
    scenes = [scene_of(seed, task) for seed in seeds]
    layouts = [layout_of(scene) for scene in scenes]
    return {
        "layout": {key: np.stack([layout[key] for layout in layouts]) for key in layouts[0]},
        "task": np.array([scene.task for scene in scenes], dtype=object),
        "target_colour": np.array([scene.blocks[0].colour for scene in scenes], dtype=object),
    }


def dead_reckon(
    policy: Policy,
    seeds: list[int],
    steps: int,
    task: str = "any",
    size: int | None = None,
    scene: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Actions [steps, B, 7] and commanded poses [steps + 1, B, 7].

    Frames (where `size` is given) are noise that follows from seed and step. With `scene`, all rows are in that scene.
    """
    info = batched_info(seeds if scene is None else [scene] * len(seeds), task)
    policy.reset(info, seeds)
    poses, actions = [info["layout"]["start"].astype(np.float64)], []
    for step in range(steps):
        observation = {"agent_pos": poses[-1].astype(np.float32)}
        if size is not None:
            noise = [np.random.default_rng([seed, step]).integers(0, 256, (size, size, 3)) for seed in seeds]
            observation["pixels"] = np.stack(noise).astype(np.uint8)
        actions.append(policy.act(observation))
        poses.append(apply_action(poses[-1], actions[-1], WORKSPACE))
    return np.stack(actions), np.stack(poses)
