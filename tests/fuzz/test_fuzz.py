"""Damaged files are refused in one line or read, by every loader: a fixed number of inputs from one seed."""

from pathlib import Path

import pytest

from tests.fuzz.driver import READ, Fuzzer
from tests.fuzz.loaders import LOADERS

INPUTS = 60  # of each loader


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numbers that damaged weights compute
def test_damaged_files_are_refused_or_read(name: str, tmp_path: Path) -> None:
    outcome = Fuzzer(LOADERS[name], tmp_path).run(range(INPUTS))
    assert outcome.failures == {}
    assert outcome.counts.total() == INPUTS


@pytest.mark.parametrize("name", LOADERS)
def test_valid_files_are_read(name: str, tmp_path: Path) -> None:
    fuzzer = Fuzzer(LOADERS[name], tmp_path)
    for number in range(-len(fuzzer.seeds), 0):
        fuzzer.load(number)
    assert fuzzer.ending(-1) == READ
