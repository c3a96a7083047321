"""The one place where MuJoCo is imported: a machine without it gets one clear sentence, and only when it is used."""

from __future__ import annotations

import os
from types import ModuleType

from wfm_sim.errors import UserError


def load_mujoco() -> ModuleType:
    """The `mujoco` module, with off-screen EGL rendering unless MUJOCO_GL already says otherwise.

    Raises:
        UserError: MuJoCo is not installed.
    """
    # MuJoCo reads the variable at import time; without it, it looks for a window system.
    os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        import mujoco
    except ImportError as error:
        raise UserError("the physics twin needs MuJoCo: pip install 'mujoco>=4'") from error
    module: ModuleType = mujoco
    return module
