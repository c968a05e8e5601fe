"""The gradient on its way back through time: measured, judged, drawn."""

from elman.flow.recording import NonFinite, Recording, record

__all__ = ["NonFinite", "Recording", "record"]
