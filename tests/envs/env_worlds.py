"""The worlds that the environments are tested over: the stand-in, and the shipped model where its weights are there."""

import pytest
from standin import StandInJudge, StandInModel

from wfm_sim.envs.worlds import DEFAULT_JUDGE, DEFAULT_MODEL
from wfm_sim.weights import shipped as shipped_files

LEARNED = ["wfm_sim/Tabletop-v0", "wfm_sim/ActionWorld-v0"]


def shipped() -> bool:
    return {DEFAULT_MODEL, DEFAULT_JUDGE} <= shipped_files().keys()


def world_kwargs(name: str) -> dict:
    """Keyword arguments of an environment over the world called `name`."""
    if name == "stand-in":
        return {"world_model": StandInModel(), "judge": StandInJudge()}
    if not shipped():
        pytest.skip("the weights of nano-tabletop are not there yet")
    return {"judge": DEFAULT_JUDGE}
