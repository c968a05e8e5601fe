"""Backpropagation through time in all its forms."""

from elman.bptt.mode import Full, Mode

__all__ = ["Full", "Mode"]
