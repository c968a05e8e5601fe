"""The structure of the package: what may import what, and tables that must agree."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import elman
from elman.engine.plan.operations import POINTWISE, REDUCTIONS


def test_a_backend_lowers_every_operation() -> None:
    from elman.engine.cpu import lowering as cpu
    from elman.engine.export import onnx_lowering as onnx
    from elman.engine.gpu import lowering as gpu

    assert set(cpu.LOWERING) == set(gpu.LOWERING) == set(onnx.LOWERING) == POINTWISE
    assert set(cpu.COMBINE) == set(gpu.COMBINE) == set(onnx.REDUCE) == set(REDUCTIONS)


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
        "backends = [name for name in sys.modules if name.startswith(('elman.engine.cpu.', 'elman.engine.gpu.'))]\n"
        "assert backends == ['elman.engine.cpu.executor', 'elman.engine.gpu.executor'], backends\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_law_has_its_tests() -> None:
    tests = Path(__file__).parent
    page = tests.with_name("docs") / "architecture.md"
    laws = re.findall(r"^\| (\d+) \| [^|]* \| ([^|]*)\|$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert [int(number) for number, _ in laws] == list(range(1, 14))
    for number, files in laws:
        for file in re.findall(r"`([^`]+)`", files):
            assert re.match(rf'"""Laws? ({number}\b|\d+ and {number}\b)', (tests / file).read_text(encoding="utf-8"))
        assert files.strip() or number == "11"  # which has none yet


def test_undocumented_names_of_torch_stand_in_one_file() -> None:
    private = re.compile(
        r"torch\._C\b|\btorch(\.\w+)*\._(?!_)\w+|from torch(\.\w+)* import .*\b_(?!_)\w+|forward_ad\._"
    )
    package = Path(elman.__file__).parent
    found = [
        f"{path.relative_to(package)}:{number}: {line.strip()}"
        for path in sorted(package.rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if path.name != "torch_private.py" and private.search(line) and not line.lstrip().startswith("#")
    ]
    assert found == []


def test_what_is_known_of_a_value_is_read_in_one_place() -> None:
    engine = Path(elman.__file__).parent / "engine"
    files = [path.name for path in engine.rglob("*.py") if re.search(r"\.meta\b", path.read_text(encoding="utf-8"))]
    assert files == ["values.py"]


def test_class_names_are_unique() -> None:
    layers_and_cells = {"RNN", "GRU", "LSTM"}  # elman.GRU as in torch.nn, elman.cells.GRU as torch.nn.GRUCell
    names = Counter[str]()
    for path in Path(elman.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names.update(node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    assert {name for name, count in names.items() if count > 1} == layers_and_cells
