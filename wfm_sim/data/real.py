"""Where real robot recordings lie on this machine; they are never part of the project."""

import os
from pathlib import Path

import wfm_sim

REAL_DATA_VARIABLE = "WFM_SIM_REAL_DATA"


def real_data_folder() -> Path:
    """$WFM_SIM_REAL_DATA, or ../shared/data seen from the project's root. It need not exist."""
    chosen = os.environ.get(REAL_DATA_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    return Path(wfm_sim.__file__).resolve().parents[2] / "shared" / "data"
