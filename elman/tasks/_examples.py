"""Tasks whose data are examples: to each input belongs what is to be said of it."""

import csv
import io
import json
import sys
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import nn

from elman.errors import BadInput
from elman.files import read_bytes
from elman.flow import Recording, record
from elman.report.shown import Missing, Sample
from elman.runs import Run
from elman.tasks._codec import PlainCodec
from elman.tasks._kind import Kind, Loaded, Material, Scores
from elman.tasks._parts import Example, Parts, drawn_parts, sha256_of
from elman.tasks._spool import Picked, Spool
from elman.training.batches import ByLength

T = TypeVar("T")
SHOWN = 12  # examples in a report


class Examples(Kind):
    """A task of examples.

    examples: what they are called, where the loss is counted over something else.
    codec_type: of what turns them to numbers and back.
    """

    examples: ClassVar[str] = ""
    codec_type: ClassVar[type[PlainCodec]]

    @abstractmethod
    def read(self, data: Any, options: Any) -> Iterable[Example]:
        """The examples in files, or in what Python has in their place; None: of a data set that is at hand anywhere.

        One after the other where they may be more than memory takes.

        Raises:
            BadInput: for data that cannot be used.
        """

    @abstractmethod
    def fit(self, train: Sequence[Example], options: Any) -> Any:
        """What turns examples to numbers and back, made of what is trained on alone: of `codec_type`.

        Raises:
            BadInput: where there is nothing to learn.
        """

    @abstractmethod
    def shape(self, codec: Any, options: Any) -> dict[str, Any]:
        """The arguments of the model."""

    @abstractmethod
    def encode(self, codec: Any, example: Example) -> tuple[Any, int]:
        """An example as `collate` takes it, and how many steps it has. `stored` may put it into a file."""

    @abstractmethod
    def collate(self, encoded: Sequence[Any]) -> Any:
        """A batch, as the model's `loss` takes it."""

    @abstractmethod
    def say(self, model: Any, codec: Any, batch: Any) -> list[Any]:
        """What the model says of each example of a batch."""

    @abstractmethod
    def measure(self, codec: Any, said: Sequence[Any], targets: Sequence[Any]) -> dict[str, float]:
        """How good that is."""

    @abstractmethod
    def baselines(self, codec: Any, train: Sequence[Example], options: Any, seed: int) -> "list[Baseline]":
        """What needs no recurrent network to say something."""

    @abstractmethod
    def restored(self, codec: Any, tensors: dict[str, torch.Tensor]) -> "list[Baseline]":
        """The same of what a run has kept."""

    @abstractmethod
    def row(self, codec: Any, said: Any) -> dict[str, Any]:
        """What was said of an example, in columns for people."""

    def rows(self, codec: Any, number: int, example: Example, said: Any) -> Iterator[dict[str, Any]]:
        """The same in as many rows as it needs, for the input of this number."""
        yield {"input": self.shown(example), **self.row(codec, said)}

    @abstractmethod
    def given(self, what: Any, options: Any) -> Example:
        """An input by itself: what the command line names, a file or a text; or what Python has."""

    def check(self, codec: Any, examples: Sequence[Example]) -> None:
        """Whether a model can be scored on examples.

        Raises:
            BadInput: for a target that it cannot say.
        """

    def draw(self, run: Run, codec: Any, said: Sequence[Any], targets: Sequence[Any]) -> None:
        """Pictures of what was said of the test part, into the run."""

    def signature(self) -> str:
        """How the scores were counted, in a line, where that has to be told."""
        return ""

    def stored(self, items: Iterable[T]) -> Sequence[T]:
        """What was read or encoded, to be had by number; what memory does not take, from a file."""
        return Spool(items)

    def shown(self, example: Example) -> str:
        """The input of an example in a line."""
        return example.name or str(example.input)

    def settled(self, data: Any, options: Any) -> Any:
        """As there: where the files of parts are, seen from anywhere."""
        given = {name: getattr(options, name) for name in ("validation", "test")}
        several = {name: [one] if isinstance(one, str | Path) else one for name, one in given.items() if one}
        found = {name: [str(Path(path).resolve()) for path in paths] for name, paths in several.items()}
        return replace(options, **found)

    def prepare(self, data: Any, options: Any, seed: int, run: Run | None = None) -> Material:
        """As there."""
        parts, numbers = self.parts(data, options, seed)
        codec = self.codec(run) if run else self.fit(parts.train, options)
        for part in (parts.validation, parts.test):
            self.check(codec, part)
        train = self.batches(codec, parts.train, options.batch, seed)
        validation = self.batches(codec, parts.validation, options.batch, None)
        counts = {name: len(part) for name, part in parts._asdict().items()}
        files = [str(Path(path).resolve()) for path in data] if _is_files(data) else None
        facts = {"files": files if data is not None else [], "sha256": sha256_of(parts), **counts}
        says = (
            f"{counts['train']:,} {self.examples or self.unit} to learn from, {counts['validation']:,} to validate, "
            f"{counts['test']:,} to test"
        )
        kept = {"codec.json": json.dumps(codec.kept(), ensure_ascii=False) + "\n", "split.csv": numbers}
        name = (
            ", ".join(map(str, data)) if files else self.default if data is None else f"{type(data).__name__} in Python"
        )
        rest = (codec, parts, options, seed)
        return Material(name, facts, self.shape(codec, options), says, train, validation, kept, rest)

    default = ""  # the name of the data that are at hand anywhere

    def parts(self, data: Any, options: Any, seed: int) -> tuple[Parts, str]:
        """What is to learn from, to choose by and to be scored on, and split.csv, which says so.

        What is given as files of its own is not drawn; the rest is, by the seed, with groups kept together.
        """
        examples = self.stored(self.read(data, options))
        given = {name: getattr(options, name) for name in ("validation", "test")}
        drawn = self.split(examples, options, seed, [name for name in given if not given[name]])
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([("part", "number", "name")])
        found: dict[str, Sequence[Example]] = {}
        for name in Parts._fields:
            if given.get(name):
                given_part = self.read([Path(path) for path in given[name]], options)
                found[name] = self.stored(self.held_out(given_part, name))
                numbers: Sequence[int] = range(len(found[name]))
            else:
                numbers = drawn[name]
                found[name] = Picked(examples, numbers)
            csv.writer(table, lineterminator="\n").writerows(
                (name, i, example.name) for i, example in zip(numbers, found[name], strict=True)
            )
        return Parts(**found), table.getvalue()

    def split(self, examples: Sequence[Example], options: Any, seed: int, parts: Sequence[str]) -> dict[str, list[int]]:
        """The numbers of the examples that are trained on, "train", and of those of each part, which are others.

        Raises:
            BadInput: where there are too few.
        """
        return drawn_parts(examples, seed, parts, self.name)

    def others(self, loaded: Loaded, data: Any) -> Sequence[Example]:
        """Examples of other data than those of the training."""
        return self.stored(self.held_out(self.read(data, loaded.options), "test"))

    def held_out(self, examples: Iterable[Example], part: str) -> Iterable[Example]:
        """Of examples that are given for a part, "validation" or "test", those that are not of another."""
        return examples

    def batches(self, codec: Any, examples: Sequence[Example], batch: int, seed: int | None) -> ByLength:
        """Batches by length, in another order in every epoch if there is a seed."""
        encoded, lengths = self._encoded(codec, examples)
        return ByLength(lengths, batch, lambda numbers: self.collate([encoded[i] for i in numbers]), seed)

    def _encoded(self, codec: Any, examples: Iterable[Example]) -> tuple[Sequence[Any], NDArray[np.int64]]:
        """Examples as `collate` takes them, and how many steps each has."""
        lengths = array("q")

        def each() -> Iterator[Any]:
            for example in examples:
                encoded, length = self.encode(codec, example)
                lengths.append(length)
                yield encoded

        return self.stored(each()), np.array(lengths)

    def codec(self, run: Run) -> Any:
        """As there."""
        path = run.path / "codec.json"
        try:
            codec = self.codec_type.restored(json.loads(read_bytes(path)))
            shape = self.shape(codec, self.options_of(run))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadInput(
                f"{path}: expected what `elman train {self.name}` has written, got something else: {error}"
            ) from None
        if shape != run.config["model"]:
            raise BadInput(
                f"{path}: expected what the model of {run.path / 'config.json'} was trained with, got another"
            )
        return codec

    def conclude(self, run: Run, model: nn.Module, material: Material, best: float, console: Console) -> Scores:
        """As there, on the test part, by the weights of the best validation."""
        codec, parts, options, seed = material.rest
        model.load_state_dict(run.load_tensors("model"))
        model.eval()
        with console.status("fitting the baselines"):
            baselines = self.baselines(codec, parts.train, options, seed)
        run.save_tensors("baseline", {name: t for baseline in baselines for name, t in baseline.tensors().items()})
        scores, said = self._scores(model, codec, parts.test, baselines, options.batch, console)
        with console.status("drawing"):
            self.draw(run, codec, said, [example.target for example in parts.test])
        return scores

    def beside(self, run: Run, material: Material, scores: Scores) -> dict[str, float]:
        """As there."""
        codec, parts, _, _ = material.rest
        if self.loss not in next(iter(scores.values())):
            return {}
        targets = [example.target for example in parts.validation]
        said = {one.title: one.say(parts.validation) for one in self._baselines(codec, run)}
        return {title: self.measure(codec, what, targets)[self.loss] for title, what in said.items()}

    def _baselines(self, codec: Any, run: Run) -> "list[Baseline]":
        """Those that a run has kept, in the order of the training, which a file of tensors has not."""
        found, order = self.restored(codec, run.load_tensors("baseline")), list(run.config.get("scores", ()))
        return sorted(found, key=lambda one: order.index(one.title) if one.title in order else len(order))

    def evaluate(self, loaded: Loaded, data: Any, console: Console) -> Scores:
        """As there."""
        examples = self.others(loaded, data)
        self.check(loaded.codec, examples)
        baselines = self._baselines(loaded.codec, loaded.run)
        scores, _ = self._scores(loaded.model, loaded.codec, examples, baselines, loaded.options.batch, console)
        return scores

    def _scores(
        self,
        model: Any,
        codec: Any,
        examples: Sequence[Example],
        baselines: "Sequence[Baseline]",
        batch: int,
        console: Console,
    ) -> tuple[Scores, Sequence[Any]]:
        said = self.said(model, codec, examples, batch, console)
        targets = [example.target for example in examples]
        scores = {str(model.title): self.measure(codec, said, targets)}
        for baseline in baselines:
            scores[baseline.title] = self.measure(codec, baseline.say(examples), targets)
        if self.signature():
            console.print(self.signature())
        return scores, said

    def said(
        self, model: Any, codec: Any, examples: Sequence[Example], batch: int, console: Console | None = None
    ) -> Sequence[Any]:
        """What a model says of examples, in their order."""
        encoded, lengths = self._encoded(codec, examples)
        order = np.argsort(lengths, kind="stable")
        groups = [order[begin : begin + batch].tolist() for begin in range(0, len(order), batch)]
        shows = console is not None and console.is_terminal

        def each() -> Iterator[Any]:
            for numbers in track(groups, "predicting", console=console, transient=True) if shows else groups:
                with torch.inference_mode():
                    said = self.say(model, codec, self.collate([encoded[i] for i in numbers]))
                yield from said

        return Picked(self.stored(each()), np.argsort(order))

    def recorded(self, loaded: Loaded, data: Any, steps: int, sequences: int) -> tuple[Recording, str]:
        """As there: the longest examples that are not too long; of the training's data, those that were tested on."""
        examples = self._again(loaded).test if data is None else self.others(loaded, data)
        self.check(loaded.codec, examples)
        encoded, lengths = self._encoded(loaded.codec, examples)
        order = np.argsort(lengths, kind="stable")
        fit = order[lengths[order] <= steps][-sequences:].tolist() or order[:sequences].tolist()
        with record(loaded.model) as recording:
            loss, count, _ = loaded.model.loss(self.collate([encoded[i] for i in fit]), None)
            (loss / count).backward()
        return recording, f"{len(fit)} {self.examples or self.unit} of up to {lengths[fit[-1]]} steps, side by side"

    def _again(self, loaded: Loaded) -> Parts:
        """The parts of a run's own data.

        Raises:
            BadInput: if these are not the same any more.
        """
        run = loaded.run
        files = self.source(run)
        parts, _ = self.parts(files or None, loaded.options, run.config["training"]["seed"])
        if sha256_of(parts) != run.config["data"].get("sha256"):
            raise BadInput(f"{run.config['data'].get('name')} is no longer what this run was trained on")
        return parts

    def samples(self, loaded: Loaded, console: Console) -> tuple[Sample, ...] | Missing:
        """What it says of the first examples of the test part."""
        try:
            examples = self._again(loaded).test[:SHOWN]
        except BadInput as error:
            return Missing(f"The data of the training cannot be read any more: {error}")
        said = self.said(loaded.model, loaded.codec, examples, loaded.options.batch)
        return tuple(
            Sample(
                f"{self.shown(example)[:200]}", ", ".join(f"{k} {v}" for k, v in self.row(loaded.codec, what).items())
            )
            for example, what in zip(examples, said, strict=True)
        )

    def predictions(self, loaded: Loaded, inputs: Sequence[Any]) -> Any:
        """As there."""
        batch = loaded.options.batch
        for begin in range(0, len(inputs), batch):
            some = dict(self._given(loaded, enumerate(inputs[begin : begin + batch], begin + 1)))
            said = self.said(loaded.model, loaded.codec, list(some.values()), batch)
            for (i, example), what in zip(some.items(), said, strict=True):
                yield from self.rows(loaded.codec, i, example, what)

    def _given(self, loaded: Loaded, inputs: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Example]]:
        """Inputs with their numbers, without those that cannot be used, if these are skipped."""
        for i, what in inputs:
            try:
                yield i, self.given(what, loaded.options)
            except BadInput as error:
                if not loaded.options.skip_bad:
                    raise BadInput(f"input {i}: {error}; --skip-bad leaves it out") from None
                print(f"input {i}: {error}; left out", file=sys.stderr)


class Baseline:
    """What says something of examples without a recurrent network."""

    title: str

    def say(self, examples: Sequence[Example]) -> list[Any]:
        """In the form in which the model does."""
        raise NotImplementedError

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that it has learned, to be kept in a run."""
        raise NotImplementedError


def _is_files(data: Any) -> bool:
    return isinstance(data, list | tuple) and all(isinstance(path, Path) for path in data)
