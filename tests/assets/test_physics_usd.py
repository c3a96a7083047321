"""The USD of a scene: usd-core's validators have nothing to say, and every number arrives."""

from pathlib import Path

import numpy as np
import pytest

from wfm_sim.assets.physics import SCENES, build
from wfm_sim.assets.physics.usd import body_path, validate, write_usd
from wfm_sim.errors import UserError

pxr = pytest.importorskip("pxr", reason="usd-core is not installed: the extra `physx`")


@pytest.mark.parametrize("name", SCENES)
def test_stages_are_valid(name: str, tmp_path: Path) -> None:
    assert validate(write_usd(build(name, 2), tmp_path)) == []


def test_the_validators_do_object(tmp_path: Path) -> None:
    from pxr import Usd

    path = write_usd(build("gyroscope", 2), tmp_path)
    stage = Usd.Stage.Open(str(path))
    stage.GetRootLayer().defaultPrim = ""
    stage.GetPrimAtPath("/World/Joints/pivot0").GetRelationship("physics:body1").SetTargets(["/World/nowhere"])
    stage.GetRootLayer().Save()
    faults = "\n".join(validate(path))
    assert "defaultPrim" in faults
    assert "pivot0" in faults


def test_numbers_arrive(tmp_path: Path) -> None:
    from pxr import Usd, UsdGeom, UsdPhysics

    scene = build("gyroscope", 2)
    body, joint = scene.dynamic[0], scene.joints[0]
    stage = Usd.Stage.Open(str(write_usd(scene, tmp_path)))
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1.0
    assert UsdGeom.GetStageUpAxis(stage) == "Z"
    prim = stage.GetPrimAtPath(body_path(body))
    assert UsdPhysics.MassAPI(prim).GetMassAttr().Get() == pytest.approx(body.mass, rel=1e-6)
    spin = np.array(UsdPhysics.RigidBodyAPI(prim).GetAngularVelocityAttr().Get())
    np.testing.assert_allclose(np.deg2rad(spin), body.angular, rtol=1e-5)
    pose = UsdGeom.XformCache().GetLocalToWorldTransform(prim)
    np.testing.assert_allclose(pose.ExtractTranslation(), body.position, atol=1e-9)
    # The joint's anchor is one point, seen from the world and from the body.
    made = UsdPhysics.SphericalJoint(stage.GetPrimAtPath(f"/World/Joints/{joint.name}"))
    from_body = pose.Transform(made.GetLocalPos1Attr().Get())
    np.testing.assert_allclose(from_body, joint.anchor, atol=1e-5)
    camera = UsdGeom.Camera(stage.GetPrimAtPath("/World/Cameras/view1")).GetCamera()
    assert camera.GetFieldOfView(camera.FOVVertical) == pytest.approx(scene.cameras[1].fovy, abs=1e-3)
    assert (tmp_path / "textures").is_dir()


def test_soft_bodies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"soft_drop has soft bodies.*mujoco"):
        write_usd(build("soft_drop", 0), tmp_path)
