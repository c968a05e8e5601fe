"""What the examples and the README show is run, and what it prints is what they say."""

import doctest
import re
import runpy
from pathlib import Path

import pytest

from elman.engine import EXECUTORS

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_example_runs(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(example), run_name="__main__")
    errors = [float(number) for number in re.findall(r"error ([\d.]+)", capsys.readouterr().out)]
    assert not errors or errors[-1] < errors[0] / 4


@pytest.mark.parametrize("page", ["README.md", "docs/bptt.md", "docs/flow.md", "docs/sklearn.md"])
def test_a_page_prints_what_it_says(page: str) -> None:
    """The blocks marked `pycon`; those of the shell take minutes and are run by hand."""
    blocks = re.findall(r"```pycon\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    if "native" not in EXECUTORS:
        blocks = [block for block in blocks if "executor native" not in block]
    assert blocks
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page, page, 0)
    runner = doctest.DocTestRunner(verbose=False)
    runner.run(test)
    assert runner.summarize().failed == 0


def test_the_cell_of_the_docs_is_that_of_the_example() -> None:
    page, example = (ROOT / "docs" / "own_cells.md").read_text(), (ROOT / "examples" / "delta_memory.py").read_text()
    for line in re.findall(r"(class DeltaMemory.*?)\n\n\n", page, re.DOTALL)[0].splitlines():
        assert line in example
