"""Observation of backward passes: the gradient that arrives at every step."""
