"""Evals: metrics with intervals, the nano gates, the policy comparison of the demo, replay of real episodes."""
