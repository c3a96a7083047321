"""Scenes as neutral dataclasses, the builders that compile them for a physics engine, and the shipped weights."""
