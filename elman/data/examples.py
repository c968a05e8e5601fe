"""Examples: how they are made, and checked."""

import os
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from elman.errors import BadInput
from elman.io.files import STDIN
from elman.io.format import counted
from elman.io.terminal import note

TOLD = 8  # of what is left out, each by itself
_SURROGATE = re.compile("[\\ud800-\\udfff]")


class Example(NamedTuple):
    """One of them.

    input: what the model is given, as it was read.
    target: what is to be said of it; None where nobody knows.
    group: examples of one group are never on both sides of a split; None: of no group. Copies of an input are on the
        same side in any case.
    name: for people: a file, a line of it.
    """

    input: Any
    target: Any = None
    group: Hashable | None = None
    name: str = ""


def is_files(data: Any) -> TypeGuard[list[Path]]:
    """Whether data are files, and not what Python has in their place."""
    return isinstance(data, list | tuple) and len(data) > 0 and all(isinstance(path, Path) for path in data)


def are_kept(data: Any) -> bool:
    """Whether data are files that can be read again by another process: not Python objects or standard input."""
    return is_files(data) and STDIN not in data


def files_in(data: Any) -> Any:
    """What names files, as a list of these; anything else as it is.

    >>> files_in(["a.csv", "b.csv"]), files_in((["good", "bad"], [1, 0]))
    ([PosixPath('a.csv'), PosixPath('b.csv')], (['good', 'bad'], [1, 0]))
    """
    if isinstance(data, str | os.PathLike):
        return [Path(data)]
    several = isinstance(data, list | tuple) and data and all(isinstance(part, str | os.PathLike) for part in data)
    return [Path(path) for path in data] if several else data


def usable(made: Iterable[Callable[[], Example]], skip_bad: bool, where: str) -> Iterator[Example]:
    """Examples, as they are made; those that cannot be used are told and left out, if these are skipped.

    Args:
        made: makes each, or raises BadInput.
        skip_bad: whether they are skipped.
        where: they come from.

    Raises:
        BadInput: for the first that cannot be used, if they are not skipped; where all were skipped.
    """
    kept = skipped = 0
    for make in made:
        try:
            example = make()
            check_texts(example.name, example.name, example.input, example.target)
        except BadInput as error:
            if not skip_bad:
                raise BadInput(f"{error}; --skip-bad leaves it out") from None
            skipped += 1
            if skipped <= TOLD:
                note(f"{error}; left out")
        else:
            kept += 1
            yield example
    if skipped:
        note(f"{where}: left out {skipped:,} that cannot be used")
    if skipped and not kept:
        raise BadInput(f"{where}: expected something that can be used, got none")


def tell_left_out(where: str, paths: Sequence[Path], why: str) -> None:
    """Tell how many files are left out, by the endings of their names.

    Args:
        where: they are.
        paths: of the files.
        why: they are left out, as "that are no images".
    """
    if paths:
        counts = Counter(path.suffix.lower() or path.name for path in paths).most_common()
        listed = ", ".join(f"{ending} ({count:,})" for ending, count in counts[:TOLD])
        more = f" and {len(counts) - TOLD:,} other endings" if len(counts) > TOLD else ""
        note(f"{where}: left out {counted(len(paths), 'file')} {why}: {listed}{more}")


def check_texts(where: str, *values: Any) -> None:
    """Whether all texts among these values, or in lists of them, can be written in any encoding of Unicode.

    Raises:
        BadInput: for one that cannot: of bytes that were no UTF-8, or of halves of characters.
    """
    for value in values:
        if isinstance(value, list | tuple):
            check_texts(where, *value)
        elif isinstance(value, str) and (found := _SURROGATE.search(value)):
            came = f"byte 0x{ord(found[0]) - 0xDC00:02x}" if "\udc80" <= found[0] <= "\udcff" else repr(found[0])
            expected = "UTF-8, got" if came.startswith("byte") else "a text, got a character that no text has:"
            raise BadInput(f"{where}: expected {expected} {came}")
