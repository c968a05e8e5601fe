"""Tasks whose data are examples: to each input belongs what is to be said of it, by a model and by baselines."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import nn
from typing_extensions import override

from elman.data.disk_list import Subset
from elman.data.examples import Example, check_texts
from elman.errors import BadInput
from elman.flow import Recording, record
from elman.io.json_fields import restoring
from elman.io.run_folder import Run
from elman.io.terminal import note
from elman.report.shown import Missing, Sample
from elman.tasks.preparation import PreparedTask
from elman.tasks.prepared_data import Loaded, PreparedData, Scores

SHOWN = 12  # examples in a report


class SupervisedTask(PreparedTask):
    """A task of examples.

    one: what an input is called that Python gives and that has no name.
    """

    one: ClassVar[str] = ""

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

    def draw(self, run: Run, codec: Any, said: Sequence[Any], targets: Sequence[Any]) -> None:
        """Pictures of what was said of the test part, into the run."""

    def signature(self) -> str:
        """How the scores were counted, in a line, where that has to be told."""
        return ""

    def shown(self, example: Example) -> str:
        """The input of an example in a line."""
        return example.name or str(example.input)

    def conclude(self, run: Run, model: nn.Module, material: PreparedData, best: float, console: Console) -> Scores:
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

    @override
    def beside(self, run: Run, material: PreparedData, scores: Scores) -> dict[str, float]:
        codec, parts, _, _ = material.rest
        if self.loss not in next(iter(scores.values())):
            return {}
        targets = [example.target for example in parts.validation]
        said = {one.title: one.say(parts.validation) for one in self._baselines(codec, run)}
        return {title: self.measure(codec, what, targets)[self.loss] for title, what in said.items()}

    def _baselines(self, codec: Any, run: Run) -> "list[Baseline]":
        """Those that a run has kept, in the order of the training, which a file of tensors has not."""
        path, tensors = run.path / "baseline.safetensors", run.load_tensors("baseline")
        with restoring(path, f"the baselines of `elman train {self.name}`"):
            found = self.restored(codec, tensors)
        order = list(run.config.get("scores") or ())
        return sorted(found, key=lambda one: order.index(one.title) if one.title in order else len(order))

    @override
    def evaluate(self, loaded: Loaded, data: Any, console: Console) -> Scores:
        examples = self.others(loaded, data)
        self.check(loaded.codec, examples)
        baselines = self._baselines(loaded.codec, loaded.run) if self.has_baselines(loaded.run) else []
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

        return Subset(self.stored(each()), np.argsort(order))

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

    @override
    def predictions(self, loaded: Loaded, inputs: Sequence[Any]) -> Any:
        batch = loaded.options.batch
        for begin in range(0, len(inputs), batch):
            some = dict(self._given(loaded, enumerate(inputs[begin : begin + batch], begin + 1)))
            said = self.said(loaded.model, loaded.codec, list(some.values()), batch)
            for (i, example), what in zip(some.items(), said, strict=True):
                yield from self.rows(loaded.codec, i, example, what)

    @override
    def batch(self, loaded: Loaded, inputs: Any) -> Any:
        several = dict(self._given(loaded, enumerate(self.inputs(loaded, inputs), 1))).values()
        return self.collate([self.encode(loaded.codec, example)[0] for example in several])

    def _given(self, loaded: Loaded, inputs: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Example]]:
        """Inputs with their numbers, without those that cannot be used, if these are skipped."""
        for i, what in inputs:
            try:
                check_texts("predict", what)
                example = what if isinstance(what, Example) else self.given(what, loaded.options)
                yield i, example if example.name or not self.one else example._replace(name=f"{self.one} {i}")
            except BadInput as error:
                if not loaded.options.skip_bad:
                    raise BadInput(f"input {i}: {error}; --skip-bad leaves it out") from None
                note(f"input {i}: {error}; left out")


class Baseline:
    """What says something of examples without a recurrent network."""

    title: str

    def say(self, examples: Sequence[Example]) -> list[Any]:
        """In the form in which the model does."""
        raise NotImplementedError

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that it has learned, to be kept in a run."""
        raise NotImplementedError
