"""What Python gives in the place of files, and what rows of tables have to hold: whether it can be used."""

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

SHOWN = 24  # characters of a label, or of a token, in a picture


# Endings of files that hold texts or labelled sentences; an argument with one of these is meant as a file.
FILES = (
    *(".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".txt", ".text"),
    *(".conll", ".conllu", ".iob", ".bio", ".xlsx", ".gz", ".zip"),
)


def named(arguments: Sequence[str], texts: bool) -> list[str | Path]:
    """The arguments of a command line that name files, as paths; the others are texts.

    Args:
        arguments: of the command line.
        texts: whether an argument may be a text.

    Raises:
        BadInput: for a folder, and for the name of a file that is not there, where a text was expected.
    """
    found = list[str | Path]()
    for argument in arguments:
        there, is_folder = is_file(argument), stat.S_ISDIR(_mode(argument))
        looks = not re.search(r"\s", argument) and argument.lower().endswith(FILES) and argument.lower() not in FILES
        if texts and not there and (is_folder or looks):
            came = "a folder" if is_folder else "the name of a file that is not there"
            raise BadInput(
                f"{argument}: expected a text or a file, got {came}; give a text like this on standard input"
            )
        found.append(Path(argument) if there else argument)
    return found


def as_files(inputs: Any) -> Any:
    """What Python gives to predict: paths where all are strings that name files, as for `fit`; else as it is."""
    several = isinstance(inputs, list | tuple) and bool(inputs)
    if several and all(isinstance(one, os.PathLike) or (isinstance(one, str) and is_file(one)) for one in inputs):
        return [Path(one) for one in inputs]
    return inputs


def is_file(name: str) -> bool:
    """Whether something can be read there; also a pipe, and "-", standard input."""
    if name == str(STDIN):
        return True
    mode = _mode(name)
    return mode != 0 and not stat.S_ISDIR(mode)


def _mode(name: str) -> int:
    """Of what has this name; 0 where nothing has."""
    try:
        return Path(name).stat().st_mode if name else 0
    except (OSError, ValueError):  # as of a text that is too long for a name
        return 0


def is_table(data: Any) -> bool:
    """Whether data are a data frame, or columns by name."""
    return hasattr(type(data), "columns") or (isinstance(data, Mapping) and len(data) > 0)


def sides(task: str, data: Any, *names: str, least: int = 2) -> list[list[Any]]:
    """Sequences side by side, of one length.

    Args:
        task: its name, for complaints.
        data: a tuple of them.
        names: what each is.
        least: how many of them there have to be; what is None at the end counts as not given.

    Raises:
        BadInput: if they are none; if their lengths differ, or are zero.

    >>> sides("image", ([0, 1], ("a", "b")), "images", "labels")
    [[0, 1], ['a', 'b']]
    """
    last = f" (and {', '.join(names[least:])})" if names[least:] else ""
    expected = f"{task}: expected files, or a tuple of {' and '.join(names[:least])}{last}"
    if not isinstance(data, tuple) or not least <= len(data) <= len(names):
        raise BadInput(f"{expected}; got {described(data)}")
    found = list[list[Any]]()
    for name, side in zip(names, data, strict=False):
        if side is None and len(found) >= least:
            continue
        if isinstance(side, str | bytes | Mapping | set) or not _counted(side):
            raise BadInput(f"{expected}; got {described(side)} for {name}")
        found.append(list(side))
    counts = [len(side) for side in found]
    if len(set(counts)) > 1:
        got = " and ".join(f"{count:,}" for count in counts)
        raise BadInput(f"{task}: expected as many {' as '.join(names[: len(found)])}, got {got}")
    if not counts[0]:
        raise BadInput(f"{expected}; got none")
    return found


def text_of(value: Any, where: str) -> str:
    """A text, without spaces around it.

    Raises:
        BadInput: for what is none, and for an empty one.
    """
    if not isinstance(value, str) or not value.strip():
        came = "an empty one" if isinstance(value, str) else "none" if value is None else quoted(value)
        raise BadInput(f"{where}: expected a text, got {came}")
    return value.strip()


def label_of(value: Any, where: str) -> str:
    """A label as a text.

    Raises:
        BadInput: for what is none, as tables write that, or is no single thing.
    """
    if value is None or str(value).strip().lower() in ("", "nan"):
        raise BadInput(f"{where}: expected a label, got {'none' if value is None else quoted(value)}")
    if not isinstance(value, str) and hasattr(value, "item"):
        try:
            value = value.item()  # of an array, or a tensor, of one
        except (ValueError, RuntimeError):
            raise BadInput(f"{where}: expected a label, got several at once, of shape {tuple(value.shape)}") from None
    if isinstance(value, Sequence | Mapping | set) and not isinstance(value, str):
        raise BadInput(f"{where}: expected a label, got {quoted(value)}")
    return str(value).strip()


def group_of(value: Any, where: str) -> Hashable:
    """What examples are kept together by, a text without spaces around it.

    Raises:
        BadInput: for what cannot be compared.
    """
    try:
        hash(value)
    except TypeError:
        raise BadInput(f"{where}: expected a group, a text or a number, got {quoted(value)}") from None
    found: Hashable = value.strip() if isinstance(value, str) else value
    return found


def listed(names: Iterable[Any], most: int = 200) -> str:
    """Names with commas between them; quoted where they have spaces or marks in them, as far as there is room.

    >>> listed(["text", "label ", "a,b"])
    "text, 'label ', 'a,b'"
    """
    shown = [str(name) if re.fullmatch(r"[\w.-]+", str(name)) else repr(str(name)) for name in names]
    lengths = accumulate(len(name) + 2 for name in shown)
    fit = max(1, sum(length <= most for length in lengths))
    more = f" and {len(shown) - fit:,} more" if len(shown) > fit else ""
    return ", ".join(shown[:fit]) + more


def shortened(text: str, most: int = SHOWN) -> str:
    """A text for a picture, in a line.

    >>> shortened("one  two three", 8)
    'one two…'
    """
    text = " ".join(text.split()).encode(errors="replace").decode()
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def quoted(value: Any, most: int = 40) -> str:
    """Something as Python writes it, in a line that is not long."""
    return " ".join(repr(value).split())[:most]


def described(data: Any) -> str:
    """What something is, in a few words."""
    if isinstance(data, tuple):
        return f"a tuple of {len(data)}"
    if _counted(data) and not len(data):
        return f"an empty {type(data).__name__}"
    return quoted(data) if isinstance(data, str | int | float | np.generic) else type(data).__name__


def _counted(side: Any) -> bool:
    try:
        return len(side) >= 0 and iter(side) is not None
    except TypeError:
        return False
