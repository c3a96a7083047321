"""The tabletop in MuJoCo: one compiled model, changed in place for every scene, so that a reset takes milliseconds.

sim = TabletopSim(image_size=64)
sim.load(scene)
measured = sim.move_to(pose)            # one control step of 0.2 s; pose as in wfm_sim/actions.py
frame = sim.render()                    # uint8 [H, W, 3]
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from wfm_sim.actions import RATE_HZ
from wfm_sim.assets import widowx
from wfm_sim.assets.mj import load_mujoco
from wfm_sim.assets.tabletop import (
    BLOCK_HALF,
    BLOCK_MASS,
    CAMERA_FOVY,
    MAX_BLOCKS,
    PLATE_HEIGHT,
    PLATE_RADIUS,
    WOOD_TEXTURES,
    ZONE_HALF,
    TabletopScene,
)

TIMESTEP = 0.004
SUBSTEPS = round(1.0 / RATE_HZ / TIMESTEP)
# The joints are led to their targets over this part of a control step; the rest is for settling.
RAMP = 0.85

SCENE_XML = """
<mujoco model="tabletop">
  <compiler angle="radian"/>
  <option timestep="{timestep}" integrator="implicitfast" cone="elliptic" impratio="10" iterations="30"/>
  <visual>
    <global offwidth="1024" offheight="1024" fovy="{fovy}"/>
    <map znear="0.02" zfar="20"/>
    <headlight ambient=".4 .4 .4" diffuse=".15 .15 .15" specular="0 0 0"/>
    <quality shadowsize="0" offsamples="4"/>
  </visual>
  <default>{arm_defaults}</default>
  <asset>
    {arm_materials}
    <material name="floor" rgba=".3 .3 .4 1" specular="0"/>
    {wood_materials}
  </asset>
  <worldbody>
    <light name="lamp" type="directional" castshadow="false" dir="0 0 -1" specular=".2 .2 .2" ambient="0 0 0"/>
    <camera name="camera" mode="fixed" fovy="{fovy}"/>
    <geom name="floor" type="plane" size="4 4 .1" pos="0 0 -.5" material="floor" friction="{slide} .01 .001"/>
    <geom name="table" type="box" size=".33 .38 .02" pos=".14 0 -.02" friction="{slide} .01 .001"/>
    <!-- Off-centre, or the compiler would weld them to the world frame and ignore where a scene puts them. -->
    <geom name="plate" type="cylinder" size="{plate_radius} {plate_half}" pos=".3 .1 {plate_half}"
          friction="{slide} .01 .001"/>
    <geom name="plate_rim" class="look" type="cylinder" size="{plate_inner} .0003" pos=".3 .1 .01"/>
    <geom name="zone" class="look" type="box" size="{zone} {zone} .0004" pos=".3 -.1 .01"/>
    <geom name="zone_inner" class="look" type="box" size="{zone_inner} {zone_inner} .0008" pos=".3 -.1 .01"/>
    {arm}
    {blocks}
  </worldbody>
  <actuator>{actuators}</actuator>
</mujoco>
"""
LOOK_DEFAULT = '<default class="look"><geom contype="0" conaffinity="0"/></default>'
BLOCK_XML = """
<body name="block{i}"><freejoint name="block{i}"/>
  <geom name="block{i}" type="box" size="{half} {half} {half}" mass="{mass}" contype="3" conaffinity="1" condim="4"
        friction="{slide} .01 .001"/>
</body>
"""
SLIDE_FRICTION = 0.65
# N s/m and N m s/rad. A block that is squeezed out from under a fingertip comes to rest near by, instead of shooting
# off faster than a frame every 0.2 s can follow; pushing and carrying hardly notice.
BLOCK_DAMPING = (0.4, 0.4, 0.4, 1e-4, 1e-4, 1e-4)


def wood_texture(index: int, size: int = 256) -> NDArray[np.uint8]:
    """Procedural wood, uint8 [size, size, 3], nearly white so that a material colour can tint it.

    0 and 1 are long grain of two widths, 2 planks, 3 a butcher's block of staggered staves.
    """
    rng = np.random.default_rng(100 + index)
    v, u = np.meshgrid(np.linspace(0, 1, size, endpoint=False), np.linspace(0, 1, size, endpoint=False), indexing="ij")
    bend = 0.02 * np.sin(2 * np.pi * (u + rng.uniform())) + 0.01 * np.sin(4 * np.pi * (u + rng.uniform()))
    grain = np.zeros((size, size))
    for frequency in ((5, 11, 23), (9, 19, 41), (7, 17, 31), (7, 13, 29))[index % 4]:
        grain += np.sin(2 * np.pi * (frequency * (v + bend) + rng.uniform())) / 3
    tone = 0.88 + 0.09 * grain + rng.normal(0.0, 0.012, (size, size))
    if index % 4 in (2, 3):
        row = np.floor(v * 4).astype(int)
        column = np.zeros_like(row) if index % 4 == 2 else np.floor((u * 2 + 0.37 * row) % 2).astype(int)
        tone += rng.uniform(-0.09, 0.05, (4, 2))[row, column]
        tone -= 0.2 * (np.abs(v * 4 - np.round(v * 4)) < 0.04)
    rgb = np.stack([tone, tone**1.05, tone**1.12], axis=-1)
    return np.asarray(np.clip(rgb, 0, 1) * 255, dtype=np.uint8)


def build_model(scene: TabletopScene | None = None) -> Any:
    """The compiled MjModel, coloured and arranged as `scene` says if one is given (else apply one before use)."""
    mj = load_mujoco()
    xml = SCENE_XML.format(
        timestep=TIMESTEP,
        fovy=CAMERA_FOVY,
        slide=SLIDE_FRICTION,
        plate_radius=PLATE_RADIUS,
        plate_inner=PLATE_RADIUS * 0.72,
        plate_half=PLATE_HEIGHT / 2,
        zone=ZONE_HALF,
        zone_inner=ZONE_HALF - 0.011,
        arm_defaults=widowx.ARM_DEFAULTS + LOOK_DEFAULT,
        arm_materials=widowx.ARM_MATERIALS,
        wood_materials="".join(f'<material name="wood{i}" specular=".05"/>' for i in range(WOOD_TEXTURES)),
        arm=widowx.ARM_BODY,
        blocks="".join(
            BLOCK_XML.format(i=i, half=BLOCK_HALF, mass=BLOCK_MASS, slide=SLIDE_FRICTION) for i in range(MAX_BLOCKS)
        ),
        actuators=widowx.ARM_ACTUATORS,
    )
    spec = mj.MjSpec.from_string(xml)
    for i in range(WOOD_TEXTURES):
        pixels = wood_texture(i)
        texture = spec.add_texture(
            name=f"wood{i}", type=mj.mjtTexture.mjTEXTURE_2D, width=pixels.shape[1], height=pixels.shape[0], nchannel=3
        )
        texture.data = pixels.tobytes()
        spec.material(f"wood{i}").textures[mj.mjtTextureRole.mjTEXROLE_RGB] = f"wood{i}"
    model = spec.compile()
    for i in range(MAX_BLOCKS):
        model.joint(f"block{i}").damping[:] = BLOCK_DAMPING
    if scene is not None:
        apply_scene(model, scene)
    return model


def apply_scene(model: Any, scene: TabletopScene) -> None:
    """Change a model from `build_model` in place: everything a scene fixes but the state (see TabletopSim.load)."""
    wood = model.material(f"wood{scene.wood_texture}")
    wood.rgba[:3] = scene.wood_rgb
    model.geom("table").matid[:] = wood.id
    model.material("floor").rgba[:3] = scene.floor_rgb
    plate_rgb, zone_rgb = np.array(scene.plate_rgb), np.array(scene.zone_rgb)
    for name, rgb, (x, y), z in (
        ("plate", plate_rgb, scene.plate_xy, PLATE_HEIGHT / 2),
        ("plate_rim", plate_rgb * 0.80, scene.plate_xy, PLATE_HEIGHT),
        ("zone", np.ones(3) * 0.95, scene.zone_xy, 0.0004),
        ("zone_inner", zone_rgb, scene.zone_xy, 0.0004),
    ):
        model.geom(name).rgba[:3] = rgb
        model.geom(name).pos[:] = (x, y, z)
    for i in range(MAX_BLOCKS):
        if i < len(scene.blocks):
            model.geom(f"block{i}").rgba[:] = (*scene.blocks[i].rgb, 1.0)
        else:
            model.geom(f"block{i}").rgba[:] = 0.0
    model.light("lamp").dir[:] = np.array(scene.light_direction) / np.linalg.norm(scene.light_direction)
    model.light("lamp").diffuse[:] = scene.light_diffuse
    model.vis.headlight.ambient[:] = scene.light_ambient
    model.camera("camera").pos[:] = scene.camera_position
    right, up = np.array(scene.camera_axes[:3]), np.array(scene.camera_axes[3:])
    x, y, z, w = Rotation.from_matrix(np.stack([right, up, np.cross(right, up)], axis=1)).as_quat()
    model.camera("camera").quat[:] = (w, x, y, z)


@dataclass(frozen=True)
class SimSnapshot:
    """The physics state and the joint targets of one moment of one scene."""

    scene: TabletopScene
    state: NDArray[np.float64]
    joint_targets: NDArray[np.float64]


class TabletopSim:
    """One tabletop with its renderer, stepped by commanded gripper poses. Deterministic to the bit on one machine."""

    def __init__(self, image_size: int = 64) -> None:
        self._mj = load_mujoco()
        self.image_size = image_size
        self.model = build_model()
        self.data = self._mj.MjData(self.model)
        self._ik = widowx.ArmIK()
        self._renderers: dict[int, Any] = {}
        self._scene: TabletopScene | None = None
        self._arm = np.array([self.model.joint(name).qposadr[0] for name in widowx.ARM_JOINTS])
        self._fingers = np.array([self.model.joint(name).qposadr[0] for name in widowx.FINGER_JOINTS])
        self._block_qpos = [self.model.joint(f"block{i}").qposadr[0] for i in range(MAX_BLOCKS)]
        self._block_geoms = [self.model.geom(f"block{i}").id for i in range(MAX_BLOCKS)]
        self._hand_geoms = {self.model.geom(name).id for name in ("palm", "left_pad", "right_pad")}
        self._ee = self.model.site("ee").id
        self._targets = np.zeros(8)

    def load(self, scene: TabletopScene) -> None:
        """Put the scene on the table: colours, camera, blocks, and the arm at rest at its start pose."""
        self._scene = scene
        apply_scene(self.model, scene)
        self._mj.mj_resetData(self.model, self.data)
        for i, address in enumerate(self._block_qpos):
            if i < len(scene.blocks):
                block = scene.blocks[i]
                position, yaw = (*block.xy, BLOCK_HALF), block.yaw
            else:
                # A block that this scene lacks rests, invisible, on the floor behind the robot.
                position, yaw = (-1.5, 0.5 * i, BLOCK_HALF - 0.5), 0.0
            self.data.qpos[address : address + 7] = (*position, np.cos(yaw / 2), 0.0, 0.0, np.sin(yaw / 2))
        self._targets = self._joint_targets(np.array(scene.start), widowx.HOME, iterations=60)
        self.data.qpos[self._arm] = self._targets[:6]
        self.data.qpos[self._fingers] = self._targets[6:]
        self.data.ctrl[:] = self._targets
        self._mj.mj_forward(self.model, self.data)

    def move_to(self, pose: NDArray[np.float64]) -> None:
        """One control step (0.2 s) towards a commanded pose [7]."""
        before, after = self._targets, self._joint_targets(pose, self._targets[:6], iterations=12)
        for substep in range(1, SUBSTEPS + 1):
            part = min(1.0, substep / (RAMP * SUBSTEPS))
            self.data.ctrl[:6] = before[:6] + part * (after[:6] - before[:6])
            self.data.ctrl[6:] = after[6:]
            self._mj.mj_step(self.model, self.data)
        self._targets = after
        # Contacts and site poses as of the state that is about to be looked at.
        self._mj.mj_forward(self.model, self.data)

    def _joint_targets(
        self, pose: NDArray[np.float64], start: NDArray[np.float64], iterations: int
    ) -> NDArray[np.float64]:
        rotation = Rotation.from_euler("xyz", pose[3:6]).as_matrix()
        arm = self._ik.solve(pose[:3], rotation, start, iterations)
        return np.concatenate([arm, np.repeat(np.clip(pose[6], 0.0, 1.0) * widowx.FINGER_TRAVEL, 2)])

    def measured_pose(self) -> NDArray[np.float32]:
        """Where the gripper is: float32 [7], as in wfm_sim/actions.py, with its measured opening, 0..1, last."""
        rotation = Rotation.from_matrix(self.data.site_xmat[self._ee].reshape(3, 3)).as_euler("xyz")
        opening = float(np.mean(self.data.qpos[self._fingers])) / widowx.FINGER_TRAVEL
        return np.array([*self.data.site_xpos[self._ee], *rotation, opening], dtype=np.float32)

    def block_position(self, index: int) -> NDArray[np.float64]:
        """Centre of a block, float64 [3], metres."""
        address = self._block_qpos[index]
        return np.array(self.data.qpos[address : address + 3])

    def block_yaw(self, index: int) -> float:
        """Heading of a block's edges, radians in [-pi/4, pi/4): a cube looks the same every quarter turn."""
        address = self._block_qpos[index] + 3
        axes = Rotation.from_quat(np.roll(self.data.qpos[address : address + 4], -1)).as_matrix()
        level = np.argsort(np.abs(axes[2]))[0]  # the axis nearest to the horizontal, whichever face is up
        return float((np.arctan2(axes[1, level], axes[0, level]) + np.pi / 4) % (np.pi / 2) - np.pi / 4)

    def block_touched(self, index: int) -> bool:
        """Whether the gripper touches a block."""
        geom = self._block_geoms[index]
        for a, b in self.data.contact.geom:
            if (a == geom and b in self._hand_geoms) or (b == geom and a in self._hand_geoms):
                return True
        return False

    def render(self, size: int | None = None) -> NDArray[np.uint8]:
        """The camera's view, uint8 [size, size, 3]; size defaults to image_size."""
        renderer = self._renderer(size or self.image_size)
        return np.array(renderer.render(), dtype=np.uint8)

    def block_masks(self, size: int | None = None) -> NDArray[np.bool_]:
        """Which pixels show which block: bool [MAX_BLOCKS, size, size], occlusion included."""
        renderer = self._renderer(size or self.image_size)
        renderer.enable_segmentation_rendering()
        try:
            ids = renderer.render()
        finally:
            renderer.disable_segmentation_rendering()
        is_geom = ids[..., 1] == int(self._mj.mjtObj.mjOBJ_GEOM)
        return np.stack([is_geom & (ids[..., 0] == geom) for geom in self._block_geoms])

    def _renderer(self, size: int) -> Any:
        """The renderer of one frame size, made on first use (a GL context must be born in the process that uses it)."""
        if size not in self._renderers:
            self.model.vis.global_.offwidth = self.model.vis.global_.offheight = size
            self._renderers[size] = self._mj.Renderer(self.model, size, size)
        renderer = self._renderers[size]
        renderer.update_scene(self.data, camera="camera")
        renderer.scene.flags[self._mj.mjtRndFlag.mjRND_SHADOW] = 0
        renderer.scene.flags[self._mj.mjtRndFlag.mjRND_REFLECTION] = 0
        return renderer

    def snapshot(self) -> SimSnapshot:
        """Everything needed to come back to this moment with `restore`."""
        if self._scene is None:
            raise RuntimeError("load a scene first")
        kind = self._mj.mjtState.mjSTATE_INTEGRATION
        state = np.empty(self._mj.mj_stateSize(self.model, kind))
        self._mj.mj_getState(self.model, self.data, state, kind)
        return SimSnapshot(self._scene, state, self._targets.copy())

    def restore(self, snapshot: SimSnapshot) -> None:
        """Go back to a moment; what follows is the same to the bit as what followed it the first time."""
        self.load(snapshot.scene)
        self._mj.mj_setState(self.model, self.data, snapshot.state, self._mj.mjtState.mjSTATE_INTEGRATION)
        self._targets = snapshot.joint_targets.copy()
        self._mj.mj_forward(self.model, self.data)
        # The solver's warm start is part of the state, and mj_forward has just replaced it.
        self._mj.mj_setState(self.model, self.data, snapshot.state, self._mj.mjtState.mjSTATE_INTEGRATION)

    def close(self) -> None:
        """Free the renderers."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()
