"""World models of the Cosmos family: tokenizers, the diffusion transformer, and the causal simulator made of them."""
