"""Policies: what acts in an environment, learned or physical. `base` has the contract."""
