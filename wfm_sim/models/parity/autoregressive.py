"""Reference cases of the autoregressive transformer and its sampling."""

from wfm_sim.models.parity.case import Runner

RUNNERS: dict[str, Runner] = {}
