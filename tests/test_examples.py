"""The examples run, and learn. tests/test_docs.py runs those of the pages."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_example_runs(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(example), run_name="__main__")
    errors = [float(number) for number in re.findall(r"error ([\d.]+)", capsys.readouterr().out)]
    assert not errors or errors[-1] < errors[0] / 4


def test_the_cell_of_the_docs_is_that_of_the_example() -> None:
    page, example = (ROOT / "docs" / "own_cells.md").read_text(), (ROOT / "examples" / "delta_memory.py").read_text()
    for line in re.findall(r"(class DeltaMemory.*?)\n\n\n", page, re.DOTALL)[0].splitlines():
        assert line in example
