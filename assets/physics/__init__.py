"""Scenes of rigid-body physics as plain data, drawn from a seed, and the two writers (MuJoCo's MjSpec and UsdPhysics).

scene = build("dominoes", seed=0)
scene.parameters["topple_angle"], scene.cameras[0].intrinsics(256, 256)
"""

from wfm_sim.assets.physics.build import AUTHORS, EXTENSIONS, FPS, SCENES, build
from wfm_sim.assets.physics.scene import (
    Body,
    Camera,
    Joint,
    Light,
    Material,
    Scene,
    Shape,
    Sky,
    SoftBody,
    scene_from_dict,
    scene_to_dict,
)
from wfm_sim.assets.physics.trajectory import Trajectory

__all__ = [
    "AUTHORS",
    "EXTENSIONS",
    "FPS",
    "SCENES",
    "Body",
    "Camera",
    "Joint",
    "Light",
    "Material",
    "Scene",
    "Shape",
    "Sky",
    "SoftBody",
    "Trajectory",
    "build",
    "scene_from_dict",
    "scene_to_dict",
]
