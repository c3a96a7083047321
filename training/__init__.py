"""Collecting episodes in the physics twin and training world models on them."""
