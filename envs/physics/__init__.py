"""Engines that simulate a physics scene, and the renderer that shows what they did.

trajectory = simulate(build("dominoes", seed=0), backend="mujoco")
with Renderer(scene, 256, 256) as renderer:
    frame, mask = renderer.render(trajectory, frame=12, view=0)
"""

from wfm_sim.assets.physics.trajectory import Trajectory
from wfm_sim.envs.physics.engines import BACKENDS, engine_version, simulate
from wfm_sim.envs.physics.render import Renderer

__all__ = ["BACKENDS", "Renderer", "Trajectory", "engine_version", "simulate"]
