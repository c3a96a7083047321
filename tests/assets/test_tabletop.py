"""The scene that a seed stands for, and the model it compiles to."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from wfm_sim.assets import tabletop
from wfm_sim.assets.tabletop import PALETTE, TASKS, WORKSPACE, layout_of, sample_scene
from wfm_sim.assets.widowx import HOME, ArmIK
from wfm_sim.errors import UserError


def test_a_seed_is_one_scene_whatever_the_task() -> None:
    scenes = [sample_scene(7, task) for task in TASKS]
    assert [scene.task for scene in scenes] == list(TASKS)
    assert len({scene.blocks for scene in scenes}) == len({scene.camera_position for scene in scenes}) == 1
    assert sample_scene(7) == sample_scene(7)
    assert sample_scene(7) != sample_scene(8)


def test_scenes_vary_and_things_do_not_overlap() -> None:
    scenes = [sample_scene(seed) for seed in range(150)]
    assert {scene.task for scene in scenes} == set(TASKS)
    assert {scene.blocks[0].colour for scene in scenes} == set(PALETTE)
    assert {len(scene.blocks) for scene in scenes} == {2, 3}
    assert {scene.wood_texture for scene in scenes} == set(range(tabletop.WOOD_TEXTURES))
    for scene in scenes:
        assert len({block.colour for block in scene.blocks}) == len(scene.blocks)
        centres = np.array([block.xy for block in scene.blocks])
        gaps = np.linalg.norm(centres[:, None] - centres[None], axis=-1)[np.triu_indices(len(centres), 1)]
        assert gaps.min() > 2 * tabletop.BLOCK_HALF * np.sqrt(2)
        plate = np.linalg.norm(centres - np.array(scene.plate_xy), axis=-1)
        assert plate.min() > tabletop.PLATE_RADIUS + tabletop.BLOCK_HALF
        assert np.linalg.norm(np.subtract(scene.plate_xy, scene.zone_xy)) > tabletop.PLATE_RADIUS + tabletop.ZONE_HALF
        # Not solved at the start: the target is not in the zone.
        assert np.abs(np.subtract(scene.blocks[0].xy, scene.zone_xy)).max() > tabletop.ZONE_REACH


def test_instruction_and_layout_name_the_target() -> None:
    scene = sample_scene(3, "place")
    assert scene.instruction == f"put the {scene.blocks[0].colour} block on the plate"
    layout = layout_of(scene)
    assert TASKS[layout["task"]] == "place"
    np.testing.assert_allclose(layout["target"][:2], scene.blocks[0].xy, atol=1e-6)
    np.testing.assert_allclose(layout["goal"][:2], scene.plate_xy, atol=1e-6)
    assert {key: layout[key].shape for key in ("target", "distractor", "goal", "start")} == {
        "target": (4,),
        "distractor": (4,),
        "goal": (3,),
        "start": (7,),
    }


def test_bad_task_and_seed() -> None:
    with pytest.raises(UserError, match="unknown task 'pusch'; did you mean 'push'"):
        sample_scene(0, "pusch")
    with pytest.raises(UserError, match="-1"):
        sample_scene(-1)


def test_inverse_kinematics_reaches_the_whole_workspace() -> None:
    import mujoco

    ik = ArmIK()
    model, data = ik._model, mujoco.MjData(ik._model)
    rng = np.random.default_rng(0)
    low, high = np.array(WORKSPACE.low), np.array(WORKSPACE.high)
    for _ in range(60):
        pose = rng.uniform(low, high)
        wanted = Rotation.from_euler("xyz", pose[3:])
        data.qpos[:6] = ik.solve(pose[:3], wanted.as_matrix(), HOME, iterations=60)
        mujoco.mj_kinematics(model, data)
        assert np.linalg.norm(data.site("ee").xpos - pose[:3]) < 1e-3
        reached = Rotation.from_matrix(data.site("ee").xmat.reshape(3, 3))
        assert (wanted.inv() * reached).magnitude() < 0.01
