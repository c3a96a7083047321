"""Pictures and object masks of a trajectory, by MuJoCo's renderer, whichever engine made the trajectory."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.assets.mj import load_mujoco
from wfm_sim.assets.physics import Scene, Trajectory
from wfm_sim.assets.physics.mjspec import compile_scene
from wfm_sim.errors import UserError

MAX_OBJECTS = 255  # a mask is uint8


class Renderer:
    """Renders the frames of a scene's trajectories. Make it in the process (and thread) that uses it; close it after.

    with Renderer(scene, 256, 256) as renderer:
        frame, mask = renderer.render(trajectory, frame=0, view=0)

    Raises:
        UserError: a size that is not positive, or more objects than a mask can hold.
    """

    def __init__(self, scene: Scene, width: int, height: int) -> None:
        if width < 1 or height < 1:
            raise UserError(f"the size of a picture must be positive, not {width}x{height}")
        if len(scene.names) > MAX_OBJECTS:
            raise UserError(f"{scene.name} has {len(scene.names)} objects; masks are uint8 and hold {MAX_OBJECTS}")
        self._mj = load_mujoco()
        mj = self._mj
        self.scene, self.width, self.height = scene, width, height
        self._model = compile_scene(scene, "render", width, height)
        self._data = mj.MjData(self._model)
        bodies = [self._model.body(body.name) for body in scene.dynamic]
        self._mocap = np.array([int(body.mocapid[0]) for body in bodies], dtype=int)
        order = {int(body.id): i + 1 for i, body in enumerate(bodies)}
        self._label_of_geom = np.array([order.get(int(body), 0) for body in self._model.geom_bodyid], dtype=np.uint8)
        self._gl: Any = mj.GLContext(width, height)
        self._gl.make_current()
        self._context = mj.MjrContext(self._model, mj.mjtFontScale.mjFONTSCALE_150)
        mj.mjr_setBuffer(mj.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._visible = mj.MjvScene(self._model, maxgeom=self._model.ngeom + self._model.nflex + 8)
        self._camera, self._option = mj.MjvCamera(), mj.MjvOption()
        self._camera.type = mj.mjtCamera.mjCAMERA_FIXED
        self._rectangle = mj.MjrRect(0, 0, width, height)
        self._pixels = np.empty((height, width, 3), dtype=np.uint8)

    def render(self, trajectory: Trajectory, frame: int, view: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """The picture, uint8 [H, W, 3], RGB, and the mask, uint8 [H, W]: 0 background, i + 1 body i of `names`.

        Raises:
            UserError: no such view or frame, or a trajectory of other bodies than the scene's.
        """
        if not 0 <= view < len(self.scene.cameras):
            raise UserError(f"{self.scene.name} has views 0..{len(self.scene.cameras) - 1}, not {view}")
        if not 0 <= frame < len(trajectory):
            raise UserError(f"the trajectory has frames 0..{len(trajectory) - 1}, not {frame}")
        if trajectory.names != self.scene.names:
            raise UserError(f"the trajectory moves {trajectory.names}, the scene {self.scene.name} {self.scene.names}")
        mj, data = self._mj, self._data
        self._gl.make_current()
        rigid = len(self._mocap)  # soft bodies come after the rigid ones
        data.mocap_pos[self._mocap] = trajectory.positions[frame, :rigid]
        data.mocap_quat[self._mocap] = trajectory.quaternions[frame, :rigid]
        mj.mj_kinematics(self._model, data)
        if trajectory.nodes is not None:
            data.flexvert_xpos[:] = trajectory.nodes[frame]
        mj.mj_camlight(self._model, data)
        self._camera.fixedcamid = self._model.camera(self.scene.cameras[view].name).id
        mj.mjv_updateScene(self._model, data, self._option, None, self._camera, mj.mjtCatBit.mjCAT_ALL, self._visible)
        self._visible.flags[mj.mjtRndFlag.mjRND_REFLECTION] = 0
        mj.mjr_render(self._rectangle, self._visible, self._context)
        mj.mjr_readPixels(self._pixels, None, self._rectangle, self._context)
        # OpenGL's rows run upwards.
        return self._pixels[::-1].copy(), self._mask()

    def _mask(self) -> NDArray[np.uint8]:
        """The mask of what `self._visible` holds: drawn again, each geom in a colour that is its number."""
        mj, visible = self._mj, self._visible
        flags = (mj.mjtRndFlag.mjRND_SEGMENT, mj.mjtRndFlag.mjRND_IDCOLOR)
        for flag in flags:
            visible.flags[flag] = 1
        mj.mjr_render(self._rectangle, visible, self._context)
        mj.mjr_readPixels(self._pixels, None, self._rectangle, self._context)
        for flag in flags:
            visible.flags[flag] = 0
        labels = np.zeros(visible.ngeom + 1, dtype=np.uint8)
        for geom in visible.geoms[: visible.ngeom]:
            if geom.segid < 0:
                continue
            if geom.objtype == mj.mjtObj.mjOBJ_GEOM:
                labels[geom.segid + 1] = self._label_of_geom[geom.objid]
            elif geom.objtype == mj.mjtObj.mjOBJ_FLEX:
                labels[geom.segid + 1] = len(self._mocap) + 1 + geom.objid
        pixels = self._pixels[::-1]
        number = pixels[..., 0].astype(np.int32)
        if len(labels) > 256:
            number += pixels[..., 1].astype(np.int32) << 8
        return np.asarray(labels[number])

    def close(self) -> None:
        """Free the OpenGL context."""
        if self._gl is not None:
            self._context.free()
            self._gl.free()
            self._gl = None

    def __enter__(self) -> Renderer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
