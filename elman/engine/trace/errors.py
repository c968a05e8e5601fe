"""The error that capture raises, and the source line that its message names."""

import sys
from pathlib import Path
from types import FrameType

import torch
from torch import fx

from elman.engine.trace.values import line_of

INTERNAL_FOLDERS = str(Path(__file__).parent), str(Path(torch.__file__).parent)  # frames in them are not the cell's
CAPTURE_FILE = str(Path(__file__).with_name("capture.py"))  # the frames outside it are the caller's, not the cell's


class CannotCapture(Exception):
    """The step is not a fixed graph of known operations; the message names the operation and its line."""


def location_of(node: fx.Node) -> str:
    """Return the source line of an operation, to be appended to a message."""
    return line_of(node) or " (in the backward step)"


def current_line() -> str:
    """Return the line of the cell's code that runs the current operation, as " (file, line n)"; "" if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame and frame.f_code.co_filename != CAPTURE_FILE:
        if not frame.f_code.co_filename.startswith(INTERNAL_FOLDERS):
            return f" ({Path(frame.f_code.co_filename).name}, line {frame.f_lineno})"
        frame = frame.f_back
    return ""
