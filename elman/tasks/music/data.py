"""Pieces of music, from wherever they are."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elman.data import midi
from elman.data.examples import Example, is_files, tell_left_out, usable
from elman.data.midi import Notes
from elman.errors import BadInput
from elman.io.files import read_bytes, visible_files
from elman.io.json_fields import parsed
from elman.io.validate import whole
from elman.tasks.music.options import MusicOptions
from elman.tasks.music.steps import PITCHES, events, frames, notes

PARTS = {"train": "train", "valid": "validation", "test": "test"}  # by their names in JSON
SPLIT = "part"  # the first of the group of a piece whose file says to which part it belongs


class Named(NamedTuple):
    """What may be a piece."""

    name: str
    part: str  # "": drawn
    read: Callable[[], NDArray[np.bool_] | Notes]


def part_of(example: Example) -> str:
    """The part to which a piece belongs by its file; "" where that is drawn."""
    return example.group[1] if isinstance(example.group, tuple) and example.group[0] == SPLIT else ""


def is_frames(data: Any) -> list[bool]:
    """Of each of the data, whether it is frames, whose steps are what they are, and not MIDI."""
    return [path.suffix.lower() == ".json" for path in data] if is_files(data) else [True]


def read(data: Any, options: MusicOptions) -> Iterator[Example]:
    """The pieces of files, or of what Python has in their place.

    Raises:
        BadInput: for what cannot be used; for a piece, if these are not skipped.
    """
    where = ", ".join(map(str, data)) if is_files(data) else "music"
    return usable((partial(to_example, piece, options) for piece in pieces_in(data, options)), options.skip_bad, where)


def pieces_in(data: Any, options: MusicOptions) -> Iterator[Named]:
    """What may be pieces in files, or in what Python has in their place.

    Raises:
        BadInput: for a file that has none.
    """
    return (one for path in data for one in _file(path, options)) if is_files(data) else _pieces("music", data)


def to_example(piece: Named, options: MusicOptions) -> Example:
    """A piece.

    Raises:
        BadInput: if it cannot be used.
    """
    content = piece.read()
    if options.as_ == "events":
        array: Any = events(notes(content) if isinstance(content, np.ndarray) else content)
    else:
        array = content if isinstance(content, np.ndarray) else frames(content)
    return Example(array, group=(SPLIT, piece.part) if piece.part else None, name=piece.name)


def _file(path: Path, options: MusicOptions) -> Iterator[Named]:
    if path.is_dir():
        files = list(visible_files(path))
        found = [file for file in files if midi.is_midi(file)]
        tell_left_out(str(path), sorted(set(files) - set(found)), "that are not MIDI")
        if not found:
            raise BadInput(f"{path}: expected MIDI files, {' or '.join(midi.SUFFIXES)}, got a folder without any")
        for file in found:
            yield from _file(file, options)
    elif path.suffix.lower() == ".json":
        try:
            yield from _pieces(str(path), parsed(read_bytes(path)))
        except ValueError as error:
            raise BadInput(f"{path}: expected JSON, got something else: {error}") from None
    else:
        yield Named(str(path), "", lambda: midi.read(path, options.steps))


def _pieces(name: str, data: Any) -> Iterator[Named]:
    """The pieces of JSON, or of what Python has in its place."""
    if isinstance(data, dict):
        if set(data) != set(PARTS):
            raise BadInput(f"{name}: expected {', '.join(map(repr, PARTS))}; got {list(data)!r:.80}")
        for key, part in PARTS.items():
            yield from (one._replace(part=part) for one in _pieces(f"{name}: {key}", data[key]))
        return
    if isinstance(data, str | bytes) or not isinstance(data, Sequence | np.ndarray) or not len(data):
        raise BadInput(f"{name}: expected a list of pieces, got {data!r:.40}")
    for i, piece in enumerate(data, 1):
        where = f"{name}: piece {i}"
        yield Named(where, "", lambda where=where, piece=piece: _frames(where, piece))  # type: ignore[misc]


def _frames(where: str, piece: Any) -> NDArray[np.bool_]:
    """Of an array (T, 128), or of lists of pitches.

    Raises:
        BadInput: for anything else.
    """
    if hasattr(piece, "numpy"):
        piece = piece.numpy()
    if isinstance(piece, np.ndarray) and piece.ndim == 2:
        if piece.shape[1] != PITCHES:
            raise BadInput(f"{where}: expected an array (T, {PITCHES}), got {piece.shape}")
        found: NDArray[np.bool_] = piece != 0
    else:
        if not _is_list(piece) or not len(piece):
            raise BadInput(f"{where}: expected a list of frames, got {piece!r:.40}")
        found = np.zeros((len(piece), PITCHES), bool)
        for t, frame in enumerate(piece):
            found[t, _pitches(f"{where}, frame {t + 1}", frame)] = True
    if not found.any():
        raise BadInput(f"{where}: expected notes, got none")
    return found


def _pitches(where: str, frame: Any) -> list[int]:
    if not _is_list(frame):
        raise BadInput(f"{where}: expected a list of MIDI pitches, got {frame!r:.40}")
    for pitch in frame:
        number = whole(pitch)
        if number is None or not 0 <= number < PITCHES:
            raise BadInput(f"{where}: expected MIDI pitches from 0 to {PITCHES - 1}, got {pitch!r:.40}")
    return [int(pitch) for pitch in frame]


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str | bytes)
