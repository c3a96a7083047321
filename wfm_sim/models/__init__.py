"""World models of the Cosmos family: tokenizers, the diffusion transformer, and the causal simulator made of them."""

from wfm_sim.models.checkpoint import load, save, shipped_weights

__all__ = ["load", "save", "shipped_weights"]
