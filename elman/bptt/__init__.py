"""Gradient modes for backpropagation through time: full, checkpointed, truncated, real-time (RTRL)."""

from elman.bptt.checkpointed import Checkpointed
from elman.bptt.mode import Full, Mode
from elman.bptt.rtrl import RTRL
from elman.bptt.streams import Chunk, Stream, stream
from elman.bptt.truncated import Truncated

__all__ = ["RTRL", "Checkpointed", "Chunk", "Full", "Mode", "Stream", "Truncated", "stream"]
