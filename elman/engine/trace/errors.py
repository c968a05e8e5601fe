"""The error of capture, and where in the cell's own code an operation stands."""

import sys
from pathlib import Path
from types import FrameType

import torch
from torch import fx

from elman.engine.trace.values import line_of

OURS = str(Path(__file__).parent), str(Path(torch.__file__).parent)  # where operations are no lines of the cell's
BEGIN = str(Path(__file__).with_name("capture.py"))  # from where a step is called


class CannotCapture(Exception):
    """The step is no fixed graph of operations; the message says which operation of which line is in the way."""


def place_of(node: fx.Node) -> str:
    """Where in the cell's own code an operation stands, for the end of a message."""
    return line_of(node) or " (in the backward step)"


def current_line() -> str:
    """Where in the cell's own code the operation now being recorded stands, " (file, line n)"."""
    frame: FrameType | None = sys._getframe(1)
    while frame and frame.f_code.co_filename != BEGIN:
        if not frame.f_code.co_filename.startswith(OURS):
            return f" ({Path(frame.f_code.co_filename).name}, line {frame.f_lineno})"
        frame = frame.f_back
    return ""
