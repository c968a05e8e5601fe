"""The arguments of a kernel: what a plan does not have cannot be asked for."""

import pytest

from elman.cells import GRU
from elman.engine import EXECUTORS
from elman.engine.plan.planner import plan
from elman.engine.trace.capture import capture

if "native" not in EXECUTORS:
    pytest.skip("the native executor is switched off", allow_module_level=True)

from elman.engine.cpu.arguments import PlanArguments, Word, address, hop


def test_a_misspelt_argument_raises() -> None:
    shapes = {name: parameter.shape for name, parameter in GRU(3, 5).named_parameters()}
    step, check = capture(GRU(3, 5), shapes, 3, 5)
    arguments = PlanArguments(plan(step))
    check()
    places = [arguments[argument] for argument in (address("x"), address("d_state0"), hop("d_state0"))]
    assert len({*places, *Word}) == len(Word) + 3
    assert max(places) < len(arguments)
    with pytest.raises(KeyError, match="d_sate0"):
        arguments[address("d_sate0")]
    assert arguments.find(address("state1")) is None
