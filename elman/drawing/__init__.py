"""Diagrams of recurrent networks, folded and unfolded in time."""
