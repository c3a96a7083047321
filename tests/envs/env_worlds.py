"""The worlds that the environments are tested over: the stand-in, and the shipped model where its weights are there."""

import pytest
from standin import StandInJudge, StandInModel

from wfm_sim.envs.worlds import DEFAULT_JUDGE, DEFAULT_MODEL, weights_path

LEARNED = ["wfm_sim/Tabletop-v0", "wfm_sim/ActionWorld-v0"]


def shipped() -> bool:
    return weights_path(DEFAULT_MODEL).is_file() and weights_path(DEFAULT_JUDGE).is_file()


def world_kwargs(name: str) -> dict:
    """Keyword arguments of an environment over the world called `name`."""
    if name == "stand-in":
        return {"world_model": StandInModel(), "judge": StandInJudge()}
    if not shipped():
        pytest.skip("the weights of nano-tabletop are not there yet")
    return {"judge": DEFAULT_JUDGE}
