"""Music modelling: predict the next frame of notes, or the next event."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from os import PathLike
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from elman.data import midi
from elman.data.examples import Example
from elman.data.parts import ExampleStore
from elman.data.splits import drawn_parts, in_order
from elman.errors import BadInput
from elman.io.files import check_place, numbered
from elman.io.format import counted
from elman.io.terminal import note
from elman.tasks.music import data as pieces
from elman.tasks.music.baselines import fit_baselines, load_baselines
from elman.tasks.music.codec import MusicCodec
from elman.tasks.music.compose import compose
from elman.tasks.music.export import export
from elman.tasks.music.generation import MusicGeneration
from elman.tasks.music.model import music_model
from elman.tasks.music.options import MusicOptions
from elman.tasks.music.plots import PIANO_ROLL
from elman.tasks.supervised import Numbers, SupervisedTask
from elman.tasks.task import Generation, Input, Loaded, lines_of_stdin

DEFAULT_GRID = 4  # steps to a quarter note of MIDI


def resolve(data: Any, options: MusicOptions, tell: Callable[[str], Any]) -> tuple[MusicOptions, Any]:
    """Decide how many steps make a quarter note.

    Raises:
        BadInput: for frames and MIDI together, if `grid` is not set; for an output that events do not have.
    """
    if data is None:
        raise BadInput("music: expected DATA: MIDI files, folders of these, or JSON; got none")
    if options.as_ == "events" and options.output != "chain":
        raise BadInput(f"--output: expected none with --as events, got {options.output!r}")
    are_frames = pieces.is_frames(data)
    if options.grid or not are_frames:
        return options.model_copy(update={"grid": options.grid or DEFAULT_GRID}), data
    if any(are_frames) and not all(are_frames):
        raise BadInput("music: expected --grid, steps per quarter note, for JSON and MIDI together; got none")
    return options.model_copy(update={"grid": 1 if are_frames[0] else DEFAULT_GRID}), data


def split(task: SupervisedTask, examples: ExampleStore, seed: int, parts: Sequence[str]) -> Numbers:
    """Split as the files say, else at random. Copies of a piece whose part is known go to the same part."""
    component = in_order(examples.contents.hashes)  # copies of a piece have one number
    labelled = list(zip(component.tolist(), map(str, examples.labels), strict=True))
    known = {k: part for k, part in labelled if part}
    part_of = [part or known.get(k, "") for k, part in labelled]
    numbers = {name: [i for i, part in enumerate(part_of) if part == name] for name in ("train", *parts)}
    free = np.array([i for i, part in enumerate(part_of) if not part], np.int64)
    if len(free):
        drawn = drawn_parts(in_order(component[free]), seed, parts, task.name)
        numbers = {name: sorted([*numbers[name], *free[drawn[name]].tolist()]) for name in numbers}
    _tell_split(part_of, numbers, component)
    return numbers


def _tell_split(part_of: Sequence[str], numbers: Numbers, component: NDArray[np.int64]) -> None:
    """Print which pieces are not used, and which are repeated across parts, because their file names the part."""
    for name, count in Counter(part for part in part_of if part and part not in numbers).items():
        note(f"{count:,} pieces of DATA for {name} are not used, because --{name} is passed")
    for name in (name for name in numbers if name != "train"):
        count = int(np.isin(component[numbers[name]], component[numbers["train"]]).sum())
        if count:
            note(f"{count:,} of the {len(numbers[name]):,} pieces for {name} are also used for training")


def metrics(codec: MusicCodec, predictions: Sequence[Any], targets: Sequence[Any]) -> dict[str, float]:
    """Return the mean nats over all steps, including the first step of each piece."""
    return {"nats_per_step": float(np.concatenate(predictions).mean())}


def _pieces_in_lines(lines: Iterable[Input], options: MusicOptions) -> Iterator[Input]:
    """Yield the pieces in files, of which each line names one."""
    for where, line in lines:
        try:
            for piece in pieces.pieces_in([Path(line)], options):
                yield Input(where, piece)
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from None


def _prompt(loaded: Loaded, prompt: Any) -> Example | None:
    """Return the piece to continue: the first of a file or of a Python object."""
    if prompt is None:
        return None
    data = [Path(prompt)] if isinstance(prompt, str | PathLike) else [prompt]
    examples = (pieces.to_example(piece, loaded.options) for piece in pieces.pieces_in(data, loaded.options))
    return next((example for example in examples if pieces.part_of(example) in ("", "test")), None)


class MusicTask(SupervisedTask):
    """Music modelling. Files may name the part of each piece; the model generates MIDI files."""

    @override
    def held_out(self, examples: Iterable[Example], part: str) -> Iterator[Example]:
        """Yield the pieces of a part: those whose file names this part or none."""
        return (example for example in examples if pieces.part_of(example) in ("", part))

    @override
    def parse_inputs(self, loaded: Loaded, values: Any) -> Iterator[Iterable[Input]]:
        """Yield the pieces in files or Python objects."""
        if values is None:
            yield from (_pieces_in_lines(lines, loaded.options) for lines in lines_of_stdin(loaded))
            return
        are_files = bool(len(values)) and all(isinstance(value, str | Path) for value in values)
        data = [Path(value) for value in values] if are_files else values
        yield (Input("", piece) for piece in pieces.pieces_in(data, loaded.options))

    @override
    def generate(
        self, loaded: Loaded, prompt: Any, length: int | None, out: Path | None, to: TextIO, **sampling: Any
    ) -> Path:
        """Generate a MIDI file."""
        if out:
            check_place(out, midi.SUFFIXES, "--out ")
        codec, begin = loaded.codec, _prompt(loaded, prompt)
        notes = codec.notes(begin.input) if begin else None
        piece = compose(loaded.model, notes, codec.default_length if length is None else length, **sampling)
        with nullcontext(out) if out else numbered(loaded.run.path, "generated", ".mid") as path:
            midi.write(path, piece, codec.grid)
        of_prompt = f", of which {notes.steps / codec.grid:g} are those of {begin.name}" if notes and begin else ""
        quarters = f"{piece.steps / codec.grid:g} quarter notes"
        to.write(f"{path}: {counted(len(piece.notes), 'note')} in {quarters}{of_prompt}\n")
        return path

    @override
    def start_generation(self, loaded: Loaded, seed: int | None) -> Generation:
        return MusicGeneration(loaded.model, loaded.codec, seed)


TASK = MusicTask(
    name="music",
    description="a music model",
    options=MusicOptions,
    resolve=resolve,
    read=pieces.read,
    split=split,
    label=pieces.part_of,
    parse_input=pieces.to_example,
    codec=MusicCodec,
    model=music_model,
    unit="steps",
    examples="pieces",
    loss="nats_per_step",
    score="-nats_per_step",
    metrics=metrics,
    fit_baselines=fit_baselines,
    load_baselines=load_baselines,
    export=export,
    json_inputs=list[list[list[int]]],  # pieces, frames, pitches
    json_prompt=list[list[int]],
    plots=(PIANO_ROLL,),
    next_step="to write: elman generate {run}",
)
