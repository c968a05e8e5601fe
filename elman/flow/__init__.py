"""The gradient on its way back through time: measured, judged, drawn."""

from elman.flow import draw
from elman.flow._nonfinite import NonFinite
from elman.flow.recording import Recording, record

__all__ = ["NonFinite", "Recording", "draw", "record"]
