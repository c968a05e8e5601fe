"""Gradient-flow diagnostics: gradients at every step, Jacobian spectra, a diagnosis, plots."""

from elman.flow import plots
from elman.flow._nonfinite import NonFinite
from elman.flow.recording import Recording, record

draw = plots  # the name of earlier releases

__all__ = ["NonFinite", "Recording", "draw", "plots", "record"]
