"""Pictures and depth of a room from any camera, by MuJoCo's renderer: supersampled, and with light that stays put."""

from __future__ import annotations

from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.assets.mj import load_mujoco
from wfm_sim.assets.rooms.mjmodel import CAMERA, FAR, NEAR, compile_room
from wfm_sim.assets.rooms.room import Room
from wfm_sim.camera import Intrinsics, check_pose
from wfm_sim.errors import UserError


class RoomRenderer:
    """Renders a room. Make it in the process (and thread) that uses it; close it after.

    with RoomRenderer(room, size=(96, 128)) as renderer:
        frame, depth = renderer.render(pose)
    renderer.intrinsics

    Raises:
        UserError: a size or a field of view out of range.
    """

    def __init__(
        self, room: Room, size: tuple[int, int] = (96, 128), vertical_fov: float = 60.0, supersample: int = 2
    ) -> None:
        if min(size) < 8 or max(size) * supersample > 8192 or not 1 <= supersample <= 8:
            raise UserError(f"pictures of {size[0]}x{size[1]} supersampled {supersample} times: expected 8 px to 8192")
        if not 10 <= vertical_fov <= 120:
            raise UserError(f"a vertical field of view of {vertical_fov} degrees; expected 10 to 120")
        self._mj = load_mujoco()
        mj = self._mj
        self.room, self.size, self.supersample = room, size, supersample
        self.intrinsics = Intrinsics.of_fov(vertical_fov, size)
        height, width = size[0] * supersample, size[1] * supersample
        self._model = compile_room(room, (height, width), vertical_fov)
        self._data = mj.MjData(self._model)
        mj.mj_forward(self._model, self._data)
        self._gl: Any = mj.GLContext(width, height)
        self._gl.make_current()
        self._context = mj.MjrContext(self._model, mj.mjtFontScale.mjFONTSCALE_150)
        mj.mjr_setBuffer(mj.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._context.readDepthMap = mj.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = mj.MjvScene(self._model, maxgeom=self._model.ngeom + 8)
        camera = mj.MjvCamera()
        camera.type, camera.fixedcamid = mj.mjtCamera.mjCAMERA_FIXED, self._model.camera(CAMERA).id
        # Nothing moves but the camera: what is drawn is gathered once.
        mj.mjv_updateScene(self._model, self._data, mj.MjvOption(), None, camera, mj.mjtCatBit.mjCAT_ALL, self._scene)
        for flag in (mj.mjtRndFlag.mjRND_SHADOW, mj.mjtRndFlag.mjRND_REFLECTION, mj.mjtRndFlag.mjRND_SKYBOX):
            self._scene.flags[flag] = 0
        self._rectangle = mj.MjrRect(0, 0, width, height)
        self._pixels = np.empty((height, width, 3), np.uint8)
        self._buffer = np.empty((height, width), np.float32)

    def render(self, c2w: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """What a camera sees: uint8 [H, W, 3], RGB, and float32 [H, W], metres along its optical axis.

        c2w: [4, 4], camera to world, OpenCV axes. Depth is that of the pixel's middle; where surfaces at different
        depths share a pixel it is the nearer one's.
        """
        pose = check_pose(c2w)
        if pose.shape != (4, 4):
            raise UserError(f"expected one camera pose [4, 4], got {list(pose.shape)}")
        mj = self._mj
        self._gl.make_current()
        for eye in self._scene.camera:  # of a pair for stereo
            eye.pos, eye.forward, eye.up = pose[:3, 3], pose[:3, 2], -pose[:3, 1]
        mj.mjr_render(self._rectangle, self._scene, self._context)
        mj.mjr_readPixels(self._pixels, self._buffer, self._rectangle, self._context)
        return self._downscale()

    def _downscale(self) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        import cv2

        height, width = self.size
        # OpenGL's rows run upwards.
        pixels = cv2.resize(self._pixels, (width, height), interpolation=cv2.INTER_AREA)[::-1]
        # The buffer is 1 at the near plane and 0 at the far one, and linear in 1 / depth, which on a plane is linear
        # in the picture: the mean of the samples around a pixel's middle is what is there.
        n = self.supersample
        samples = self._buffer[::-1].reshape(height, n, width, n)
        mean, near = samples.mean(axis=(1, 3)), samples.max(axis=(1, 3))
        inverse = 1 / FAR + mean * (1 / NEAR - 1 / FAR)
        nearest = 1 / FAR + near * (1 / NEAR - 1 / FAR)
        inverse = np.where(nearest > 1.05 * inverse, nearest, inverse)
        return np.ascontiguousarray(pixels), np.asarray(1 / inverse, np.float32)

    def close(self) -> None:
        """Free the OpenGL context."""
        if self._gl is not None:
            self._context.free()
            self._gl.free()
            self._gl = None

    def __enter__(self) -> RoomRenderer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
