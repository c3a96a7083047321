"""The colour tracker, which lives in core because training asks it too: see wfm_sim/object_tracking.py."""

from wfm_sim.object_tracking import Appearance, Located, appearances, lab, locate, locate_all

__all__ = ["Appearance", "Located", "appearances", "lab", "locate", "locate_all"]
