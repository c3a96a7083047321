"""Gymnasium environments: the learned tabletop, its physics twin, and any world model behind any start frame."""
