"""Music as a task."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, TextIO

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import override

from elman.data import midi
from elman.data.examples import Example
from elman.data.midi import Notes
from elman.data.splits import components, drawn_parts, in_order
from elman.errors import BadInput
from elman.io.files import check_place, numbered
from elman.io.format import counted
from elman.io.run_folder import Run
from elman.io.terminal import show
from elman.tasks.codec import Codec
from elman.tasks.music import data as pieces
from elman.tasks.music.baselines import Spelled
from elman.tasks.music.compose import compose
from elman.tasks.music.model import Events, Frames, MusicBatch, span
from elman.tasks.music.options import OUTPUTS, MusicOptions
from elman.tasks.music.picture import QUARTERS, draw
from elman.tasks.music.steps import notes, performed, times
from elman.tasks.prepared_data import Loaded, PreparedData, Scores
from elman.tasks.supervised import Baseline, SupervisedTask

MANY = 500  # events that are written, where nothing is said
SEED, TEMPERATURE = 1, 0.8  # of what is written for the picture
GRID = 4  # steps to a quarter note of MIDI, where nothing is said


@dataclass(frozen=True)
class MusicCodec(Codec):
    """What the steps are, and how many make a quarter note."""

    steps: str
    grid: int

    def notes(self, steps: Any) -> Notes:
        """Of frames (T, 128), or of events (T,)."""
        return notes(steps) if self.steps == "frames" else performed(steps)

    def times(self, steps: Any) -> Any:
        """At which step of the grid each of the steps is."""
        return np.arange(len(steps)) if self.steps == "frames" else times(steps)

    @property
    def usual(self) -> int:
        """How many steps are written, where nothing is said."""
        return QUARTERS * self.grid if self.steps == "frames" else MANY


class Music(SupervisedTask):
    """What sounds next."""

    name = "music"
    unit = "steps"
    examples = "pieces"
    loss = "nats_per_step"
    what = "a model of music"
    options = MusicOptions
    pictures: ClassVar = {
        "piano_roll.png": "A piece of the test part, its nats step by step, and a piece that the network has written."
    }
    codec_type = MusicCodec
    next = "to write: elman generate {run}"

    def settled(self, data: Any, options: MusicOptions, tell: Callable[[str], Any] = show) -> MusicOptions:
        """As there: how many steps make a quarter note.

        Raises:
            BadInput: for frames and MIDI together, where that is not said; for an output that events do not have.
        """
        options = super().settled(data, options, tell)
        if data is None:
            raise BadInput("music: expected DATA: MIDI files, folders of these, or JSON; got none")
        if options.as_ == "events" and options.output != OUTPUTS[0]:
            raise BadInput(f"--output: expected none with --as events, got {options.output!r}")
        given = pieces.is_frames(data)
        if options.grid or not given:
            return replace(options, grid=options.grid or GRID)
        if any(given) and not all(given):
            raise BadInput("music: expected --grid, steps to a quarter note, for JSON and MIDI together; got none")
        return replace(options, grid=1 if given[0] else GRID)

    def read(self, data: Any, options: MusicOptions) -> Iterator[Example]:
        """As there; in Python, lists of frames, or arrays (T, 128)."""
        return pieces.read(data, options)

    def held_out(self, examples: Iterable[Example], part: str) -> Iterator[Example]:
        """As there: of pieces that belong to a part, those of this one."""
        return (example for example in examples if pieces.part(example) in ("", part))

    def split(
        self, examples: Sequence[Example], options: MusicOptions, seed: int, parts: Sequence[str]
    ) -> dict[str, list[int]]:
        """As their files say, else by the seed; a copy goes with the piece whose part is known."""
        component = components(example._replace(group=None) for example in examples)
        known = {k: part for k, e in zip(component.tolist(), examples, strict=True) if (part := pieces.part(e))}
        part_of = [pieces.part(e) or known.get(k, "") for k, e in zip(component.tolist(), examples, strict=True)]
        found = {name: [i for i, part in enumerate(part_of) if part == name] for name in ("train", *parts)}
        drawn = np.array([i for i, part in enumerate(part_of) if not part], np.int64)
        if len(drawn):
            numbers = drawn_parts(in_order(component[drawn]), seed, parts, self.name)
            found = {name: sorted([*found[name], *drawn[numbers[name]].tolist()]) for name in found}
        self._tell_split(part_of, found, component)
        return found

    def _tell_split(self, part_of: Sequence[str], found: dict[str, list[int]], component: NDArray[np.int64]) -> None:
        """Which pieces are not used, and which are repeated across parts, because their file says so."""
        for name, many in Counter(part for part in part_of if part and part not in found).items():
            show(f"{many:,} {self.examples} of DATA for {name} are not used: --{name} names others")
        for name in (name for name in found if name != "train"):
            many = int(np.isin(component[found[name]], component[found["train"]]).sum())
            if many:
                show(f"{many:,} of the {len(found[name]):,} {self.examples} for {name} are also used for training")

    @override
    def fit(self, train: Sequence[Example], options: MusicOptions) -> MusicCodec:
        return MusicCodec(options.as_, options.steps)

    @override
    def shape(self, codec: MusicCodec, options: MusicOptions) -> dict[str, Any]:
        names = ("cell", "hidden", "layers", "dropout", "transpose", "bptt")
        own = {"output": options.output} if codec.steps == "frames" else {"output": "events"}
        return own | {name: getattr(options, name) for name in names}

    @override
    def model(self, **shape: Any) -> Frames | Events:
        output = shape.pop("output")
        return Events(**shape) if output == "events" else Frames(output, **shape)

    @override
    def encode(self, codec: MusicCodec, example: Example) -> tuple[Any, int]:
        steps = torch.from_numpy(example.input)
        return (steps, *span(steps)), len(steps)

    @override
    def collate(self, encoded: Sequence[Any]) -> MusicBatch:
        several = [steps if steps.dim() == 1 else steps.float() for steps, _, _ in encoded]
        low, high = (torch.tensor([one[i] for one in encoded]) for i in (1, 2))
        return MusicBatch(pad_sequence(several), torch.tensor([len(steps) for steps in several]), low, high)

    def say(self, model: Any, codec: MusicCodec, batch: MusicBatch) -> list[Any]:
        """As there: the nats of each step."""
        nats = model.nats(batch).double().numpy()
        return [nats[:length, b] for b, length in enumerate(batch.lengths.tolist())]

    def measure(self, codec: MusicCodec, said: Sequence[Any], targets: Sequence[Any]) -> dict[str, float]:
        """The mean over all steps, the first of each piece among them."""
        return {self.loss: float(np.concatenate(said).mean())}

    def baselines(
        self, codec: MusicCodec, train: Sequence[Example], options: MusicOptions, seed: int
    ) -> list[Baseline]:
        """An n-gram."""
        return [Spelled.fit(train, codec.steps)]

    @override
    def restored(self, codec: MusicCodec, tensors: dict[str, torch.Tensor]) -> list[Baseline]:
        return [Spelled.restored(tensors, codec.steps)]

    @override
    def row(self, codec: MusicCodec, said: Any) -> dict[str, Any]:
        return {codec.steps: len(said), self.loss: round(float(said.mean()), 4)}

    def inputs(self, loaded: Loaded, given: Any) -> list[Any]:
        """All pieces of what is named."""
        if given is None:
            given = super().inputs(loaded, None)
        named = bool(len(given)) and all(isinstance(one, str | Path) for one in given)
        return list(self.read([Path(one) for one in given] if named else given, loaded.options))

    def given(self, what: Any, options: MusicOptions) -> Example:
        """As there: one of `inputs`."""
        found: Example = what
        return found

    def generate(
        self, loaded: Loaded, prompt: Any, length: int | None, out: Path | None, to: TextIO, **how: Any
    ) -> Any:
        """As there: a MIDI file."""
        if out:
            check_place(out, midi.SUFFIXES, "--out ")
        codec = loaded.codec
        begin = self._prompt(loaded, prompt)
        given = codec.notes(begin.input) if begin else None
        found = compose(loaded.model, given, codec.usual if length is None else length, **how)
        with nullcontext(out) if out else numbered(loaded.run.path, "generated", ".mid") as path:
            midi.write(path, found, codec.grid)
        behind = f", of which {given.steps / codec.grid:g} are those of {begin.name}" if given and begin else ""
        to.write(f"{path}: {counted(len(found.notes), 'note')} in {found.steps / codec.grid:g} quarter notes{behind}\n")
        return path

    def _prompt(self, loaded: Loaded, prompt: Any) -> Example | None:
        """A piece to go on from: the first of a file, or of what Python has in its place."""
        if prompt is None:
            return None
        is_file = isinstance(prompt, str | PathLike)
        given = [Path(prompt)] if is_file else [prompt]
        made = (pieces.example(one, loaded.options) for one in pieces.found(given, loaded.options))
        return next(iter(self.held_out(made, "test")), None)

    def conclude(self, run: Run, model: nn.Module, material: PreparedData, best: float, console: Console) -> Scores:
        """As there, and piano_roll.png: a piece of the test part, and one that the network has written."""
        scores = super().conclude(run, model, material, best, console)
        codec, parts, _, _ = material.rest
        piece = parts.test[0]
        baseline = self.restored(codec, run.load_tensors("baseline"))[0]
        with console.status("drawing"):
            said = {str(model.title): self.said(model, codec, [piece], 1)[0], baseline.title: baseline.say([piece])[0]}
            nats = {who: np.bincount(codec.times(piece.input), values) for who, values in said.items()}
            written = compose(model, None, codec.usual, SEED, temperature=TEMPERATURE)
            draw(
                run.path / "piano_roll.png", codec.grid, codec.notes(piece.input), Path(piece.name).name, nats, written
            )
        return scores


TASK = Music()
