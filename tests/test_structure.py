"""The structure of the package: what may import what, and tables that must agree."""

import subprocess
import sys

from elman.engine.plan.operations import POINTWISE, REDUCTIONS


def test_a_backend_lowers_every_operation() -> None:
    from elman.engine.cpu.lowering import COMBINE, LOWERING

    assert set(LOWERING) == POINTWISE
    assert set(COMBINE) == set(REDUCTIONS)


def test_planning_needs_no_backend() -> None:
    code = (
        "import sys; sys.modules['llvmlite'] = None\n"
        "import torch, elman\n"
        "from elman.cells import GRU\n"
        "from elman.engine.trace.capture import capture\n"
        "from elman.engine.plan.planner import plan\n"
        "shapes = {name: tuple(p.shape) for name, p in GRU(3, 5).named_parameters()}\n"
        "step, check = capture(GRU(3, 5), shapes, 3, 5)\n"
        "planned = plan(step); check()\n"
        "assert planned.forward.stages and planned.backward.stages\n"
        "assert not any(name.startswith('elman.engine.cpu') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
