"""Validate Python inputs that replace files, and cells of tables."""

import os
import re
import stat
from collections.abc import Hashable, Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from elman.errors import BadInput
from elman.io.files import STDIN

MAX_NAME = 100  # maximum number of characters of a name in a message
MAX_LABEL = 24  # maximum number of characters of a label or token in a picture


# Suffixes of files with texts or labelled sentences; an argument with one of these is taken for a file.
FILE_SUFFIXES = (
    *(".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".txt", ".text"),
    *(".conll", ".conllu", ".iob", ".bio", ".xlsx", ".gz", ".zip"),
)


def parse_arguments(arguments: Sequence[str], texts: bool) -> list[str | Path]:
    """Return the arguments of a command line, those that name files as paths and the others as texts.

    Args:
        arguments: the arguments.
        texts: whether an argument may be a text.

    Raises:
        BadInput: if texts are allowed and an argument is a folder or looks like the name of a missing file.
    """
    parsed = list[str | Path]()
    for argument in arguments:
        exists, is_folder = is_file(argument), stat.S_ISDIR(_mode(argument))
        looks_like_file = (
            not re.search(r"\s", argument)
            and argument.lower().endswith(FILE_SUFFIXES)
            and argument.lower() not in FILE_SUFFIXES
        )
        if texts and not exists and (is_folder or looks_like_file):
            received = "a folder" if is_folder else "the name of a file that does not exist"
            raise BadInput(
                f"{argument}: expected a text or a file, got {received}; to pass such a text, use standard input"
            )
        parsed.append(Path(argument) if exists else argument)
    return parsed


def as_files(inputs: Any) -> Any:
    """Return inputs of `predict` as paths if all are strings that name files; otherwise unchanged."""
    is_list = isinstance(inputs, list | tuple) and bool(inputs)
    if is_list and all(isinstance(item, os.PathLike) or (isinstance(item, str) and is_file(item)) for item in inputs):
        return [Path(item) for item in inputs]
    return inputs


def is_file(name: str) -> bool:
    """Return whether a name can be read: a file, a pipe, or "-" for standard input."""
    if name == str(STDIN):
        return True
    mode = _mode(name)
    return mode != 0 and not stat.S_ISDIR(mode)


def _mode(name: str) -> int:
    """Return the file mode of a path; 0 if it does not exist."""
    try:
        return Path(name).stat().st_mode if name else 0
    except (OSError, ValueError):  # for example, a text that is too long for a name
        return 0


def is_table(data: Any) -> bool:
    """Return whether data are a data frame or a mapping of columns."""
    return hasattr(type(data), "columns") or (isinstance(data, Mapping) and len(data) > 0)


def is_list(value: Any) -> bool:
    """Return whether a value is a sequence of values: a list, a tuple, an array or the like, and not a text."""
    return not isinstance(value, str | bytes | Mapping | set) and _is_sized(value)


def sides(task: str, data: Any, *names: str, least: int = 2) -> list[list[Any]]:
    """Validate parallel sequences, such as inputs and labels, and return them as lists.

    Args:
        task: name of the task, for error messages.
        data: a tuple of sequences.
        names: name of each sequence.
        least: number of required sequences; a later one may be None.

    Raises:
        BadInput: if a sequence is missing or invalid, if their lengths differ, or if they are empty.

    >>> sides("image", ([0, 1], ("a", "b")), "images", "labels")
    [[0, 1], ['a', 'b']]
    """
    last = f" (and {', '.join(names[least:])})" if names[least:] else ""
    expected = f"{task}: expected files, or a tuple of {' and '.join(names[:least])}{last}"
    if not isinstance(data, tuple) or not least <= len(data) <= len(names):
        raise BadInput(f"{expected}; got {described(data)}")
    sequences = list[list[Any]]()
    for name, sequence in zip(names, data, strict=False):
        if sequence is None and len(sequences) >= least:
            continue
        if not is_list(sequence):
            raise BadInput(f"{expected}; got {described(sequence)} for {name}")
        sequences.append(list(sequence))
    counts = [len(sequence) for sequence in sequences]
    if len(set(counts)) > 1:
        got = " and ".join(f"{count:,}" for count in counts)
        raise BadInput(f"{task}: expected as many {' as '.join(names[: len(sequences)])}, got {got}")
    if not counts[0]:
        raise BadInput(f"{expected}; got none")
    return sequences


def text_of(value: Any, where: str) -> str:
    """Validate a text and strip the white space around it.

    Args:
        value: the text.
        where: its position, for the error message.

    Raises:
        BadInput: if the value is not a text or is empty.
    """
    if not isinstance(value, str) or not value.strip():
        received = "an empty one" if isinstance(value, str) else "none" if value is None else quoted(value)
        raise BadInput(f"{where}: expected a text, got {received}")
    return value.strip()


def label_of(value: Any, where: str) -> str:
    """Validate a label and return it as a text.

    Args:
        value: the label, of any type with a text form.
        where: its position, for the error message.

    Raises:
        BadInput: if the value is missing, as tables write it, or is not a single value.
    """
    if value is None or str(value).strip().lower() in ("", "nan"):
        raise BadInput(f"{where}: expected a label, got {'none' if value is None else quoted(value)}")
    if not isinstance(value, str) and hasattr(value, "item"):
        try:
            value = value.item()  # a NumPy or PyTorch scalar
        except (ValueError, RuntimeError):
            raise BadInput(f"{where}: expected a label, got several at once, of shape {tuple(value.shape)}") from None
    if isinstance(value, Sequence | Mapping | set) and not isinstance(value, str):
        raise BadInput(f"{where}: expected a label, got {quoted(value)}")
    return str(value).strip()


def group_of(value: Any, where: str) -> Hashable:
    """Validate a group, the value that keeps examples together; white space around a text is stripped.

    Args:
        value: the group.
        where: its position, for the error message.

    Raises:
        BadInput: if the value is not hashable.
    """
    try:
        hash(value)
    except TypeError:
        raise BadInput(f"{where}: expected a group, a text or a number, got {quoted(value)}") from None
    group: Hashable = value.strip() if isinstance(value, str) else value
    return group


def listed(names: Iterable[Any], most: int = 200) -> str:
    """Format names as a comma-separated list of limited length; names with spaces or punctuation are quoted.

    >>> listed(["text", "label ", "a,b"])
    "text, 'label ', 'a,b'"
    """
    shown = [str(name) if re.fullmatch(r"[\w.-]+", str(name)) else repr(str(name)) for name in names]
    shown = [name if len(name) <= MAX_NAME else f"{name[:MAX_NAME]}…" for name in shown]
    lengths = accumulate(len(name) + 2 for name in shown)
    fit = max(1, sum(length <= most for length in lengths))
    more = f" and {len(shown) - fit:,} more" if len(shown) > fit else ""
    return ", ".join(shown[:fit]) + more


def shortened(text: str, most: int = MAX_LABEL) -> str:
    """Shorten a text to one line of at most `most` characters, for a picture or a message.

    >>> shortened("one  two three", 8)
    'one two…'
    """
    text = " ".join(text.split()).encode(errors="replace").decode()
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def quoted(value: Any, most: int = 40) -> str:
    """Return the repr of a value in one line of at most `most` characters."""
    return " ".join(repr(value).split())[:most]


def described(data: Any) -> str:
    """Describe data in a few words, for an error message."""
    if isinstance(data, tuple):
        return f"a tuple of {len(data)}"
    if _is_sized(data) and not len(data):
        return f"an empty {type(data).__name__}"
    return quoted(data) if isinstance(data, str | int | float | np.generic) else type(data).__name__


def _is_sized(data: Any) -> bool:
    try:
        return len(data) >= 0 and iter(data) is not None
    except TypeError:
        return False
