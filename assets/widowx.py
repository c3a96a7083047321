"""A six-joint arm with a parallel gripper in the proportions of the WidowX-250, from capsules and boxes, and its IK.

Link lengths follow the public drawings of the WidowX-250 (shoulder at 0.11 m, upper arm 0.255 m, forearm 0.25 m).
The end-effector site `ee` lies between the fingertips, in the frame of wfm_sim/actions.py: x forward, y left, z up when
the gripper points straight down. The fingers open along y.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from wfm_sim.assets.mj import load_mujoco

ARM_JOINTS = ("waist", "shoulder", "elbow", "forearm_roll", "wrist_angle", "wrist_rotate")
FINGER_JOINTS = ("left_finger", "right_finger")
FINGER_TRAVEL = 0.037  # m per finger; as on the WidowX, the open gripper is 74 mm wide
# Joint angles from which inverse kinematics starts: elbow up, gripper down, in the middle of the workspace.
HOME = np.array([0.0, -0.35, 0.45, 0.0, 1.47, 0.0])

# Collision masks: fingers and palm touch blocks (contype bit 2) and nothing else: the arm cannot catch on the table.
ARM_BODY = """
<body name="base" gravcomp="1">
  <geom class="arm" material="base" type="box" size=".06 .045 .03" pos="0 0 .03"/>
  <geom class="arm" material="base" type="cylinder" size=".035 .04" pos="0 0 .07"/>
  <body name="shoulder_link" pos="0 0 .072" gravcomp="1">
    <joint name="waist" axis="0 0 1" range="-3.1 3.1"/>
    <geom class="arm" material="base" type="box" size=".03 .045 .035" pos="0 0 .03" mass=".4"/>
    <body name="upper_arm" pos="0 0 .03865" gravcomp="1">
      <joint name="shoulder" axis="0 1 0" range="-1.88 1.99"/>
      <geom class="arm" type="capsule" size=".024" fromto="0 0 0 0 0 .25" mass=".4"/>
      <geom class="arm" type="capsule" size=".026" fromto="0 0 .25 .05 0 .25" mass=".1"/>
      <body name="upper_forearm" pos=".04975 0 .25" gravcomp="1">
        <joint name="elbow" axis="0 1 0" range="-2.15 2.0"/>
        <geom class="arm" type="capsule" size=".022" fromto="0 0 0 .175 0 0" mass=".25"/>
        <body name="lower_forearm" pos=".175 0 0" gravcomp="1">
          <joint name="forearm_roll" axis="1 0 0" range="-3.1 3.1"/>
          <geom class="arm" type="capsule" size=".024" fromto="0 0 0 .075 0 0" mass=".15"/>
          <body name="wrist" pos=".075 0 0" gravcomp="1">
            <joint name="wrist_angle" axis="0 1 0" range="-1.75 2.4"/>
            <geom class="arm" type="capsule" size=".021" fromto="0 0 0 .065 0 0" mass=".1"/>
            <body name="gripper" pos=".065 0 0" gravcomp="1">
              <joint name="wrist_rotate" axis="1 0 0" range="-3.1 3.1"/>
              <geom class="arm" type="cylinder" size=".026 .016" pos=".008 0 0" euler="0 1.5708 0" mass=".05"/>
              <geom name="palm" class="hand" type="box" size=".016 .046 .020" pos=".038 0 0" mass=".08"/>
              <site name="ee" pos=".11 0 0" quat=".70710678 0 -.70710678 0" rgba="0 0 0 0"/>
              <body name="left_finger" gravcomp="1">
                <joint name="left_finger" class="finger" axis="0 1 0"/>
                <geom name="left_pad" class="hand" type="box" size=".035 .0065 .012" pos=".085 .0065 0" mass=".02"/>
              </body>
              <body name="right_finger" gravcomp="1">
                <joint name="right_finger" class="finger" axis="0 -1 0"/>
                <geom name="right_pad" class="hand" type="box" size=".035 .0065 .012" pos=".085 -.0065 0" mass=".02"/>
              </body>
            </body>
          </body>
        </body>
      </body>
    </body>
  </body>
</body>
"""

# Armature dominates the inertia, so that one stiffness gives every joint a natural frequency near 120 rad/s: a pose
# commanded at 5 Hz is reached within the step, and the force limit keeps a blocked arm from crushing what it touches.
ARM_DEFAULTS = f"""
<joint armature=".06" damping=".5"/>
<default class="arm"><geom contype="0" conaffinity="0" material="arm"/></default>
<default class="hand">
  <geom contype="0" conaffinity="2" material="hand" friction="1.6 .02 .001" priority="1" condim="4"/>
</default>
<default class="finger"><joint type="slide" range="0 {FINGER_TRAVEL}" armature=".05" damping="2"/></default>
"""

ARM_ACTUATORS = "".join(
    f'<position name="{joint}" joint="{joint}" kp="900" dampratio="1" forcerange="-7 7"/>' for joint in ARM_JOINTS
) + "".join(
    f'<position name="{joint}" joint="{joint}" kp="500" dampratio="1" forcerange="-6 6" ctrlrange="0 {FINGER_TRAVEL}"/>'
    for joint in FINGER_JOINTS
)

ARM_MATERIALS = """
<material name="base" rgba=".20 .20 .22 1" specular=".2" shininess=".5"/>
<material name="arm" rgba=".07 .07 .08 1" specular=".4" shininess=".5"/>
<material name="hand" rgba=".10 .10 .11 1" specular=".5" shininess=".6"/>
"""


class ArmIK:
    """Joint targets for end-effector poses: differential inverse kinematics (mink) on a model of the arm alone."""

    def __init__(self) -> None:
        import mink

        mj = load_mujoco()
        xml = (
            f'<mujoco><compiler angle="radian"/><default>{ARM_DEFAULTS}</default><asset>{ARM_MATERIALS}</asset>'
            f"<worldbody>{ARM_BODY}</worldbody></mujoco>"
        )
        self._mink = mink
        self._model = mj.MjModel.from_xml_string(xml)
        self._configuration = mink.Configuration(self._model)
        self._task = mink.FrameTask("ee", "site", position_cost=1.0, orientation_cost=0.3, lm_damping=1e-6)
        self._limits = [mink.ConfigurationLimit(self._model)]

    def solve(
        self, position: NDArray[Any], rotation: NDArray[Any], start: NDArray[Any], iterations: int = 12
    ) -> NDArray[np.float64]:
        """Joint angles that bring the `ee` site to a pose, as near as the arm can reach.

        Args:
            position: [3] metres, base frame.
            rotation: [3, 3], gripper frame to base frame.
            start: [6] joint angles to start from, radians.
            iterations: Newton-like steps at most; it stops at 0.1 mm and 1 mrad.

        Returns:
            float64 [6], radians.
        """
        mink = self._mink
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = rotation, position
        self._task.set_target(mink.SE3.from_matrix(matrix))
        q = np.zeros(self._model.nq)
        q[:6] = start
        self._configuration.update(q)
        for _ in range(iterations):
            error = self._task.compute_error(self._configuration)
            if np.linalg.norm(error[:3]) < 1e-4 and np.linalg.norm(error[3:]) < 1e-3:
                break
            velocity = mink.solve_ik(
                self._configuration, [self._task], 1.0, solver="daqp", damping=1e-6, limits=self._limits
            )
            self._configuration.integrate_inplace(velocity, 1.0)
        return np.array(self._configuration.q[:6])
