"""Examples: creation and validation."""

import os
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard

from elman.errors import BadInput
from elman.io.files import STDIN, visible_files
from elman.io.format import counted
from elman.io.terminal import note

MAX_NOTES = 8  # maximum number of skipped items or suffixes to name in notes
_SURROGATE = re.compile("[\\ud800-\\udfff]")


class Example(NamedTuple):
    """An example.

    input: the model's input, as it was read.
    target: the target; None if unknown.
    group: examples of one group are on the same side of a split; None means no group. Copies of an input are always on
        the same side.
    name: name for people: a file, or a line of it.
    """

    input: Any
    target: Any = None
    group: Hashable | None = None
    name: str = ""


def is_files(data: Any) -> TypeGuard[list[Path]]:
    """Return whether data are files, not Python objects."""
    return isinstance(data, list | tuple) and len(data) > 0 and all(isinstance(path, Path) for path in data)


def can_be_reread(data: Any) -> bool:
    """Return whether another process can read the data again: they are files, not Python objects or standard input."""
    return is_files(data) and STDIN not in data


def files_in(data: Any) -> Any:
    """Return file names as a list of paths, and any other data unchanged.

    >>> files_in(["a.csv", "b.csv"]), files_in((["good", "bad"], [1, 0]))
    ([PosixPath('a.csv'), PosixPath('b.csv')], (['good', 'bad'], [1, 0]))
    """
    if isinstance(data, str | os.PathLike):
        return [Path(data)]
    are_names = isinstance(data, list | tuple) and data and all(isinstance(part, str | os.PathLike) for part in data)
    return [Path(path) for path in data] if are_names else data


def usable(factories: Iterable[Callable[[], Example]], skip_bad: bool, where: str) -> Iterator[Example]:
    """Iterate over the examples that can be used.

    Args:
        factories: functions that return an example or raise BadInput.
        skip_bad: whether to skip unusable examples with a note instead of raising.
        where: source of the examples, for messages.

    Raises:
        BadInput: if an example is unusable and `skip_bad` is False, or if all examples were skipped.
    """
    num_usable = num_skipped = 0
    for factory in factories:
        try:
            example = factory()
            check_texts(example.name, example.name, example.input, example.target)
        except BadInput as error:
            if not skip_bad:
                raise BadInput(f"{error}; pass --skip-bad to skip it") from None
            num_skipped += 1
            if num_skipped <= MAX_NOTES:
                note(f"{error}; skipped")
        else:
            num_usable += 1
            yield example
    if num_skipped:
        note(f"{where}: skipped {counted(num_skipped, 'unusable example')}")
    if num_skipped and not num_usable:
        raise BadInput(f"{where}: expected at least one usable example, got none")


def tell_left_out(where: str, paths: Sequence[Path], why: str) -> None:
    """Print a note on how many files are left out, by suffix.

    Args:
        where: the folder, for the note.
        paths: the files.
        why: reason, for example "that are no images".
    """
    if paths:
        counts = Counter(path.suffix.lower() or path.name for path in paths).most_common()
        listed = ", ".join(f"{ending} ({count:,})" for ending, count in counts[:MAX_NOTES])
        more = f" and {len(counts) - MAX_NOTES:,} other endings" if len(counts) > MAX_NOTES else ""
        note(f"{where}: skipped {counted(len(paths), 'file')} {why}: {listed}{more}")


def files_by_label(folder: Path, is_wanted: Callable[[Path], bool], files: str, others: str) -> list[tuple[Path, str]]:
    """List the files in the folders of a folder, whose names are the labels; other files are counted and left out.

    Args:
        folder: the folder.
        is_wanted: returns whether a file is an example.
        files: plural noun for examples, for messages: "images".
        others: what the other files are, for a note: "that are not images".

    Returns:
        The files, each with its label.

    Raises:
        BadInput: for a folder without folders, or with none of these files.
    """
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    labels = [path for path in paths if path.is_dir()]
    if not labels:
        raise BadInput(f"{folder}: expected a folder for each label, got none")
    tell_left_out(str(folder), [path for path in paths if not path.is_dir()], "beside the folders of the labels")
    labelled, left_out = list[tuple[Path, str]](), list[Path]()
    for label in labels:
        all_files = list(visible_files(label))
        wanted = [path for path in all_files if is_wanted(path)]
        labelled += [(path, label.name) for path in wanted]
        left_out += sorted(set(all_files) - set(wanted))
        if not wanted:
            note(f"{label}: no {files} of this label")
    tell_left_out(str(folder), left_out, others)
    if not labelled:
        raise BadInput(f"{folder}: expected {files} in the folders of the labels, got none")
    return labelled


def check_texts(where: str, *values: Any) -> None:
    """Check that all texts among the values, including those in lists, can be encoded in Unicode.

    Raises:
        BadInput: if a text has a surrogate, from bytes that were not UTF-8 or from half a character.
    """
    for value in values:
        if isinstance(value, list | tuple):
            check_texts(where, *value)
        elif isinstance(value, str) and (match := _SURROGATE.search(value)):
            received = f"byte 0x{ord(match[0]) - 0xDC00:02x}" if "\udc80" <= match[0] <= "\udcff" else repr(match[0])
            expected = "UTF-8, got" if received.startswith("byte") else "text, got an invalid character:"
            raise BadInput(f"{where}: expected {expected} {received}")
