"""Furnished rooms drawn from a seed, and walks through them; wfm_sim.envs.rooms renders them."""

from wfm_sim.assets.rooms.commands import joystick_path
from wfm_sim.assets.rooms.layout import build_room
from wfm_sim.assets.rooms.paths import walk
from wfm_sim.assets.rooms.room import Light, Material, Part, Room

__all__ = ["Light", "Material", "Part", "Room", "build_room", "joystick_path", "walk"]
