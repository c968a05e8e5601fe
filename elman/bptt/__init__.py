"""Backpropagation through time in all its forms."""

from elman.bptt.mode import Full, Mode
from elman.bptt.streams import Chunk, Stream, stream

__all__ = ["Chunk", "Full", "Mode", "Stream", "stream"]
