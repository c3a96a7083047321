"""The published checkpoints: which there are (registry.py), and their files, read for tensors only, under our names."""
