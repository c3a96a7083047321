"""Reference cases of noise schedules and solvers."""

from wfm_sim.models.parity.case import Runner

RUNNERS: dict[str, Runner] = {}
