"""Backpropagation through time in all its forms."""

from elman.bptt.checkpointed import Checkpointed
from elman.bptt.mode import Full, Mode
from elman.bptt.truncated import Truncated

__all__ = ["Checkpointed", "Full", "Mode", "Truncated"]
