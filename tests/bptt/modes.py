"""The gradient modes under test, and the sizes."""

import pytest

from elman.bptt import Checkpointed, Mode, Truncated

T, B, D, H = 11, 2, 3, 5
MODES: list[Mode] = [Checkpointed(3), Truncated(3), Truncated(2, 5)]
every_mode = pytest.mark.parametrize("mode", MODES, ids=str)
