"""Tasks whose data are examples: for each input a target, which a model and the baselines predict."""

from abc import ABC, abstractmethod
from array import array
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import nn
from typing_extensions import override

from elman.data.batches import ByLength
from elman.data.disk_list import DiskList, Subset
from elman.data.examples import Example, check_texts, is_files
from elman.data.parts import ExampleStore, Part, SplitRecord, Splits
from elman.data.row_stream import RowReader
from elman.data.splits import count_inputs, drawn_parts, fingerprint, load_split
from elman.errors import BadInput
from elman.flow import Recording, record
from elman.io.run_folder import Run
from elman.io.schema import restoring
from elman.io.terminal import note
from elman.options import PARTS
from elman.report.rows import in_cell
from elman.report.shown import Missing, Sample, Scores
from elman.tasks import streamed
from elman.tasks.bootstrap import margins
from elman.tasks.codec import Codec, check_model_args
from elman.tasks.task import (
    Input,
    Loaded,
    PreparedData,
    Task,
    check_steps,
    files_to_store,
    lines_of_stdin,
    parts_in,
    with_resolved_parts,
)
from elman.training.devices import device_of, to_device

SPLIT = "split.csv"
MAX_SAMPLES = 12  # examples in a report
CHECKED_LINES = 20  # of standard input, that `check_lines` looks at

T = TypeVar("T")
Numbers = dict[str, list[int]]  # the indices of the examples of each part, including "train"


class Baseline(ABC):
    """A baseline: predicts without a recurrent network, in the same form as the model."""

    title: str

    @abstractmethod
    def predict(self, examples: Sequence[Example]) -> list[Any]:
        """Return a prediction for each example."""

    @abstractmethod
    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the fitted parameters, for baseline.safetensors in the run folder."""


def sample_note(count: int, unit: str) -> str:
    """Return the end of the title of a baseline that is fitted on a sample; `count` 0 means all examples.

    >>> sample_note(5000, "images"), sample_note(0, "images")
    (', of 5,000 images', '')
    """
    return f", of {count:,} {unit}" if count else ""


@dataclass(frozen=True)
class Evaluation:
    """A model and its predictions on the test part, for plots."""

    task: "SupervisedTask"
    run: Run
    model: Any
    codec: Any
    examples: Sequence[Example]
    predictions: Sequence[Any]
    baselines: Sequence[Baseline]

    @property
    def targets(self) -> list[Any]:
        """The targets of the examples."""
        return [example.target for example in self.examples]


@dataclass(frozen=True)
class Plot:
    """A picture in the run folder.

    Attributes:
        file: the file name.
        caption: a sentence for the report.
        draw: plots an evaluation to a path.
    """

    file: str
    caption: str
    draw: Callable[[Evaluation, Path], None]


def random_split(task: "SupervisedTask", examples: ExampleStore, seed: int, parts: Sequence[str]) -> Numbers:
    """Split at random by a seed; copies of an input, and examples of a group, stay together."""
    return drawn_parts(examples.contents.components(), seed, parts, task.name)


def _name_of(example: Example) -> str:
    return example.name or str(example.input)


def describe_text(example: Example) -> str:
    """Return the input, a text."""
    return str(example.input)


@dataclass(frozen=True, kw_only=True)
class SupervisedTask(Task):
    """A task of examples with inputs and targets. Each attribute is a replaceable part.

    A task that needs more overrides methods in a subclass, as `ForecastTask` and `MusicTask` do: `held_out`,
    `read_other`, `extra_files`, `parse_inputs`, `generate`.

    Attributes:
        read: reads examples from files or Python objects; None: the built-in data set. May be lazy, for data that do
            not fit into memory. Raises `BadInput` for unusable data.
        rows: makes examples of the rows of tables, for `--stream`; None: the task cannot stream.
        parse_input: converts an input of `predict` to an example without a target, with the options.
        codec: the class of the codec.
        metrics: computes metrics from the fitted codec, predictions and targets.
        label_metrics: computes metrics of each label by name, likewise, for a table of their own; empty: no table.
        fit_baselines: fits baselines, from the codec, the training part, the options and the seed.
        load_baselines: loads baselines from the codec and their tensors. Raises an error for unsuitable tensors.
        plots: plots of the test part.
        split: draws the indices of each part.
        label: returns the label of an example, which `split` finds in `ExampleStore.labels`.
        read_texts: reads the inputs in a file, with the loaded model; None: the file itself is the input.
        check_lines: checks that the first lines of standard input are inputs of `predict`, with the loaded model.
            Raises `BadInput` if they are a file that `read_texts` reads.
        resolve: sets unset options from the data. Returns the options and the data, which it may have read already, for
            `read`.
        initialize: from the fitted codec, the training part, the options and a function that prints a line, makes a
            function that sets weights of a new model; None: all begin at random.
        store: the sequence that stores examples and encoded examples.
        metrics_note: returns a line about how the metrics were computed.
        describe: returns an input in one line.
        examples: plural noun for examples, if it is not `unit`.
        input_name: noun for an input of `predict` without a name: "image".
        default_data: the name of the built-in data set.
        has_duplicates: whether to count and report inputs that occur in two parts.
        several_targets: whether an input may have several targets, each in its own example; then inputs are counted.
    """

    read: Callable[[Any, Any], Iterable[Example]]
    parse_input: Callable[[Any, Any], Example]
    codec: type[Codec]
    metrics: Callable[[Any, Sequence[Any], Sequence[Any]], dict[str, float]]
    fit_baselines: Callable[[Any, Sequence[Example], Any, int], Sequence[Baseline]]
    load_baselines: Callable[[Any, Mapping[str, torch.Tensor]], Sequence[Baseline]]
    label_metrics: "Callable[[Any, Sequence[Any], Sequence[Any]], dict[str, dict[str, float]]] | None" = None
    plots: tuple[Plot, ...] = ()
    split: "Callable[[SupervisedTask, ExampleStore, int, Sequence[str]], Numbers]" = random_split
    label: Callable[[Example], Hashable] | None = None
    read_texts: Callable[[Path, Loaded], Iterable[Example]] | None = None
    check_lines: Callable[[Sequence[str], Loaded], None] | None = None
    resolve: Callable[[Any, Any, Callable[[str], Any]], tuple[Any, Any]] | None = None
    initialize: Callable[[Any, Sequence[Example], Any, Callable[[str], Any]], Callable[[Any], None] | None] | None = (
        None
    )
    rows: RowReader | None = None
    store: Callable[[Iterable[Any]], Sequence[Any]] = DiskList
    metrics_note: Callable[[], str] | None = None
    describe: Callable[[Example], str] = _name_of
    examples: str = ""
    input_name: str = ""
    default_data: str = ""
    has_duplicates: bool = True
    several_targets: bool = False

    @property
    @override
    def plot_captions(self) -> dict[str, str]:
        return {plot.file: plot.caption for plot in self.plots}

    # From data to batches.

    def resolve_options(self, data: Any, options: Any, tell: Callable[[str], Any] | None = None) -> tuple[Any, Any]:
        """Set unset options from the data.

        Returns:
            The options, and the data, which may have been read already: `split_data` takes either.
        """
        options = with_resolved_parts(options)
        return self.resolve(data, options, tell or (lambda line: None)) if self.resolve else (options, data)

    @override
    def prepare(
        self,
        data: Any,
        options: Any,
        seed: int,
        run: Run | None = None,
        tell: Callable[[str], Any] | None = None,
        base: Run | None = None,
    ) -> PreparedData:
        options, source = self.resolve_options(data, options, tell)
        if self.rows is not None and options.stream:
            return streamed.prepare(self, source, options, seed, run or base, tell)
        splits, record = self.split_data(source, options, seed, run), SplitRecord()
        codec = self.codec_for(splits, options, run or base)
        train = self.batches(codec, record.walk("train", splits.train), options.batch, seed)
        validation = self.batches(codec, record.walk("validation", splits.validation), options.batch, None)
        deque(record.walk("test", splits.test), maxlen=0)
        counts = {name: len(part) for name, part in splits._asdict().items()}
        facts = {"files": files_to_store(data, options), "sha256": record.sha256, **counts}
        summary = (
            f"{self._count_of(splits.train)} for training, "
            f"{splits.validation.inputs(self.several_targets):,} for validation, "
            f"{splits.test.inputs(self.several_targets):,} for test"
        )
        saved = {
            "codec.json": codec.to_json() + "\n",
            SPLIT: record.table,
            **self.extra_files(splits, options, source),
        }
        in_python = self.default_data if data is None else f"{type(data).__name__} in Python"
        name = ", ".join(map(str, data)) if is_files(data) else in_python
        details = (codec, splits, options, seed)
        args = codec.model_args(options)
        first_weights = self.first_weights(codec, splits.train, options, run or base, tell)
        return PreparedData(name, facts, args, summary, options, train, validation, saved, details, first_weights)

    def first_weights(
        self,
        codec: Codec,
        train: Sequence[Example],
        options: Any,
        run: Run | None,
        tell: Callable[[str], Any] | None,
    ) -> Callable[[Any], None] | None:
        """Return `PreparedData.initialize`; None if the weights are those of a run."""
        if self.initialize is None or run is not None:
            return None
        return self.initialize(codec, train, options, tell or (lambda line: None))

    def codec_for(self, splits: Splits, options: Any, run: Run | None) -> Codec:
        """Load the codec of a run, or fit one to the training part; check the targets of all parts.

        Raises:
            BadInput: for a target that the model cannot predict.
        """
        codec: Codec = self.load_codec(run) if run else self.codec.fit(splits.train, options)
        for part in splits if run else (splits.validation, splits.test):
            codec.check_targets(part)
        return codec

    def split_data(self, data: Any, options: Any, seed: int, run: Run | None = None) -> Splits:
        """Read data and split them.

        Files for validation and test are used as they are; the other parts are drawn with the seed. A resumed run uses
        its split.csv, so that later versions may draw differently.
        """
        stores = self.stores_of_parts(options)
        examples = self._store(self._examples(data, options))
        names = [name for name in PARTS if name not in stores]
        stored_split = None
        if run is not None and (path := run.path / SPLIT).exists():
            stored_split = load_split(run.files.check(path.name), examples, ["train", *names])
        indices = stored_split or self.draw_split(examples, options, seed, names)
        parts = {name: Part(examples, numbers) for name, numbers in indices.items() if name not in stores}
        parts |= {name: Part(store, range(len(store))) for name, store in stores.items()}
        if self.has_duplicates:
            self._tell_duplicates(parts, stores)
        return Splits(**parts)

    def draw_split(self, examples: ExampleStore, options: Any, seed: int, parts: Sequence[str]) -> Numbers:
        """Draw the indices of each part, including "train"; by default by `split`."""
        return self.split(self, examples, seed, parts)

    def stores_of_parts(self, options: Any) -> dict[str, ExampleStore]:
        """Read the data for validation and test that options name, by part."""
        return {
            name: self._store(self.held_out(self._examples(files, options), name))
            for name, files in parts_in(options).items()
        }

    def held_out(self, examples: Iterable[Example], part: str) -> Iterable[Example]:
        """Select the examples in data for a part, "validation" or "test", that belong to it; by default all."""
        return examples

    def extra_files(self, splits: Splits, options: Any, data: Any) -> dict[str, str]:
        """Return more files for the run folder, by name.

        Args:
            splits: the examples of each part.
            options: the options, with unset ones decided.
            data: the data, as `resolve` returns them.
        """
        return {}

    def _store(self, examples: Iterable[Example]) -> ExampleStore:
        return ExampleStore(examples, self.store, self.label, self.has_duplicates)

    def _examples(self, data: Any, options: Any) -> Iterator[Example]:
        for example in self.read(data, options):
            check_texts(example.name, example.name, example.input, example.target)
            yield example

    def _count_of(self, part: Part) -> str:
        inputs = part.inputs(self.several_targets)
        suffix = f" with {len(part):,} texts" if inputs < len(part) else ""
        return f"{inputs:,} {self.examples or self.unit}{suffix}"

    def _tell_duplicates(self, parts: Mapping[str, Part], names: Iterable[str]) -> None:
        """Print how many examples in files for a part are also in the training part, which makes its score too good."""
        for name in names:
            count = parts[name].repeated(parts["train"], self.several_targets)
            if count:
                total = f"{parts[name].inputs(self.several_targets):,} {self.examples or self.unit}"
                note(f"{count:,} of the {total} for {name} are also in the training part")

    def batches(self, codec: Codec, examples: Iterable[Example], batch: int, seed: int | None) -> ByLength:
        """Make batches by length; with a seed, in a different order and with other augmentation in each epoch."""
        if seed is not None and codec.augments:
            steps = list[int]()

            def measured() -> Iterator[Example]:
                for example in map(codec.to_augment, examples):
                    steps.append(codec.encode(example)[1])
                    yield example

            stored = self.store(measured())

            def augmented(numbers: list[int], epoch: int) -> Any:
                # By example, so that a batch is the same on any number of processes.
                rngs = (np.random.default_rng((seed, epoch, i)) for i in numbers)
                return codec.collate(codec.augment([stored[i] for i in numbers], rngs))

            return ByLength(steps, batch, augmented, seed)
        encoded, lengths = self._encoded(codec, examples)
        return ByLength(lengths, batch, lambda numbers, epoch: codec.collate([encoded[i] for i in numbers]), seed)

    def _encoded(self, codec: Codec, examples: Iterable[Example]) -> tuple[Sequence[Any], NDArray[np.int64]]:
        """Encode examples, and return their numbers of steps."""
        lengths = array("q")

        def encode_each() -> Iterator[Any]:
            for example in examples:
                encoded, length = codec.encode(example)
                lengths.append(length)
                yield encoded

        return self.store(encode_each()), np.array(lengths)

    @override
    def load_codec(self, run: Run) -> Any:
        path = run.path / "codec.json"
        options = self.options_of(run)
        with restoring(path, f"the codec of `elman train {self.name}`"):
            codec = self.codec.from_json(run.files.read(path.name))
            args = codec.model_args(options)
        check_model_args(run, args, path)
        return codec

    def read_other(self, loaded: Loaded, data: Any) -> Sequence[Example]:
        """Read examples that are not the training data."""
        return self.store(self.held_out(self._examples(data, loaded.options), "test"))

    def _test_part(self, loaded: Loaded) -> Sequence[Example]:
        """Read the test part of the training data of a run again; of streamed data, its beginning.

        Raises:
            BadInput: if the data have changed.
        """
        run = loaded.run
        if self.rows is not None and loaded.options.stream:
            data, seed = self.training_data(run), self.training_of(run).seed
            return streamed.beginning_of_test_part(self, data, loaded.options, seed)
        splits = self.split_data(self.training_data(run), loaded.options, self.training_of(run).seed, run)
        if SplitRecord.of(splits).sha256 != run.config["data"].get("sha256"):
            raise BadInput(f"{run.config['data'].get('name')} has changed since this run was trained on it")
        return splits.test

    # Scores.

    @override
    def score_run(self, run: Run, model: nn.Module, data: PreparedData, console: Console) -> Scores:
        """Score on the test part."""
        codec, splits, options, seed = data.details
        with console.status("fitting the baselines"):
            baselines = self.fit_baselines(codec, splits.train, options, seed)
        run.save_tensors("baseline", {name: t for baseline in baselines for name, t in baseline.tensors().items()})
        scores, predictions = self._scores(model, codec, splits.test, baselines, options.batch, console)
        with console.status("drawing"):
            for plot in self.plots:
                evaluation = Evaluation(self, run, model, codec, splits.test, predictions, baselines)
                plot.draw(evaluation, run.path / plot.file)
        return scores

    @override
    def baseline_losses(self, run: Run, data: PreparedData, scores: Scores) -> dict[str, float]:
        codec, splits, _, _ = data.details
        loss = self.loss_of(run)
        if loss not in next(iter(scores.values())):
            return {}
        targets = [example.target for example in splits.validation]
        return {
            baseline.title: self.metrics(codec, baseline.predict(splits.validation), targets)[loss]
            for baseline in self.saved_baselines(codec, run)
        }

    def saved_baselines(self, codec: Any, run: Run) -> Sequence[Baseline]:
        """Load the baselines of a run, in the order of its scores."""
        path, tensors = run.path / "baseline.safetensors", run.load_tensors("baseline")
        with restoring(path, f"the baselines of `elman train {self.name}`"):
            baselines = self.load_baselines(codec, tensors)
        order = list(run.config.get("scores") or ())
        return sorted(baselines, key=lambda b: order.index(b.title) if b.title in order else len(order))

    @override
    def evaluate(self, loaded: Loaded, data: Any, console: Console) -> Scores:
        examples = self.read_other(loaded, data)
        loaded.codec.check_targets(examples)
        baselines = self.saved_baselines(loaded.codec, loaded.run) if self.has_baselines(loaded.run) else []
        scores, _ = self._scores(loaded.model, loaded.codec, examples, baselines, loaded.options.batch, console)
        return scores

    def _scores(
        self, model: Any, codec: Any, examples: Sequence[Example], baselines: Sequence[Baseline], batch: int,
        console: Console,
    ) -> tuple[Scores, Sequence[Any]]:  # fmt: skip
        predictions = self.predictions(model, codec, examples, batch, console)
        targets = [example.target for example in examples]
        units = self.resampled(codec, examples)
        scores = Scores(counted=f"{count_inputs(examples, self.several_targets):,} {self.examples or self.unit}")

        def add(title: str, predicted: Sequence[Any]) -> None:
            def metrics_of(indices: Sequence[int]) -> dict[str, float]:
                return self.metrics(codec, [predicted[i] for i in indices], [targets[i] for i in indices])

            scores[title] = self.metrics(codec, predicted, targets)
            with console.status(f"confidence intervals of {title}"):
                scores.margins[title] = margins(metrics_of, units)

        add(str(model.title), predictions)
        for baseline in baselines:
            add(baseline.title, baseline.predict(examples))
        if self.label_metrics:
            scores.by_label = self.label_metrics(codec, predictions, targets)
        if self.metrics_note and (line := self.metrics_note()):
            console.print(line)
        return scores, predictions

    def resampled(self, codec: Any, examples: Sequence[Example]) -> Sequence[Hashable]:
        """Return the unit of each example in `margins`; by default the example itself, or its input."""
        if self.several_targets:
            return [fingerprint(example.input) for example in examples]
        return range(len(examples))

    # Predictions.

    def predictions(
        self, model: Any, codec: Any, examples: Sequence[Example], batch: int, console: Console | None = None
    ) -> Sequence[Any]:
        """Return the model's predictions for examples, in their order."""
        encoded, lengths = self._encoded(codec, examples)
        return self._predicted(model, codec, encoded, lengths, batch, console)

    def _predicted(
        self, model: Any, codec: Any, encoded: Sequence[Any], lengths: NDArray[np.int64], batch: int,
        console: Console | None = None,
    ) -> Sequence[Any]:  # fmt: skip
        """Return the model's predictions for encoded examples, in their order."""
        order = np.argsort(lengths, kind="stable")
        groups = [order[begin : begin + batch].tolist() for begin in range(0, len(order), batch)]
        shows = console is not None and console.is_terminal

        def predict_each() -> Iterator[Any]:
            for numbers in track(groups, "predicting", console=console, transient=True) if shows else groups:
                batch_of_group = to_device(codec.collate([encoded[i] for i in numbers]), device_of(model))
                with torch.inference_mode():
                    predicted = codec.predict(model, batch_of_group)
                yield from predicted

        return Subset(self.store(predict_each()), np.argsort(order))

    @override
    def record_flow(self, loaded: Loaded, data: Any, steps: int, sequences: int) -> tuple[Recording, str]:
        """Record a backward pass on the longest examples of at most `steps` steps, by default of the test part."""
        codec = loaded.codec
        examples = self._test_part(loaded) if data is None else self.read_other(loaded, data)
        codec.check_targets(examples)
        encoded, lengths = self._encoded(codec, examples)
        order = np.argsort(lengths, kind="stable")
        chosen = order[lengths[order] <= steps][-sequences:].tolist() or order[:sequences].tolist()
        with record(loaded.model) as recording:
            batch = to_device(codec.collate([encoded[i] for i in chosen]), device_of(loaded.model))
            loss, count, _ = loaded.model.loss(batch, None)
            (loss / count).backward()
        return (
            recording,
            f"a batch of {len(chosen)} {self.examples or self.unit} of up to {lengths[chosen[-1]]} steps",
        )

    @override
    def samples(self, loaded: Loaded, console: Console) -> tuple[Sample, ...] | Missing:
        """Predict from the first examples of the test part."""
        try:
            examples = self._test_part(loaded)[:MAX_SAMPLES]
        except BadInput as error:
            return Missing(f"The training data cannot be read: {error}")
        predictions = self.predictions(loaded.model, loaded.codec, examples, loaded.options.batch)
        rows = map(loaded.codec.to_row, predictions)

        def shown(value: Any) -> str:
            return in_cell(value, ", ") if isinstance(value, list) else str(value)

        return tuple(
            Sample(f"{self.describe(example)[:200]}", ", ".join(f"{k} {shown(v)}" for k, v in row.items()))
            for example, row in zip(examples, rows, strict=True)
        )

    @override
    def parse_inputs(self, loaded: Loaded, values: Any) -> Iterable[Iterable[Input]]:
        if values is None and self.check_lines:
            return self._checked_lines(loaded)
        return super().parse_inputs(loaded, values)

    def _checked_lines(self, loaded: Loaded) -> Iterator[list[Input]]:
        assert self.check_lines is not None
        for i, lines in enumerate(lines_of_stdin(loaded)):
            if i == 0:
                self.check_lines([line.value for line in lines[:CHECKED_LINES]], loaded)
            yield lines

    @override
    def read_inputs(self, loaded: Loaded, path: Path) -> Iterable[Any]:
        return [path] if self.read_texts is None else self.read_texts(path, loaded)

    @override
    def predict(self, loaded: Loaded, groups: Iterable[Iterable[Input]]) -> Iterator[list[dict[str, Any]]]:
        for batch in self.predict_examples(loaded, groups):
            yield [row for item in batch for row in self._rows_of(loaded, *item)]

    def _rows_of(self, loaded: Loaded, number: int, example: Example, prediction: Any) -> Iterator[dict[str, Any]]:
        """Return the rows of a prediction; `number` is that of the input, from 1."""
        args = (number, self.describe(example), example, prediction)
        rows: Iterator[dict[str, Any]] = (
            loaded.codec.to_rows(*args) if loaded.top_k is None else loaded.codec.to_top_rows(*args, loaded.top_k)
        )
        return rows

    def predict_examples(
        self, loaded: Loaded, groups: Iterable[Iterable[Input]]
    ) -> Iterator[list[tuple[int, Example, Any]]]:
        """Yield batches of inputs: the number of each, from 1, its example and its prediction."""
        numbers, size = count(1), loaded.options.batch
        for group in groups:
            for batch in _batched(self._parsed(loaded, group, numbers), size):
                predictions = self.predictions(loaded.model, loaded.codec, [example for _, example in batch], size)
                yield [(*item, prediction) for item, prediction in zip(batch, predictions, strict=True)]

    @override
    def predict_requests(
        self, loaded: Loaded, requests: Sequence[Sequence[Input]], max_steps: int | None = None
    ) -> list[list[dict[str, Any]] | BadInput]:
        """Predict from the inputs of all requests together, in batches of inputs of about the same length."""
        results: list[Any] = [self._encoded_request(loaded, inputs, max_steps) for inputs in requests]
        accepted = [i for i, result in enumerate(results) if not isinstance(result, BadInput)]
        encoded = [item for i in accepted for item in results[i].encoded]
        lengths = np.array([length for i in accepted for length in results[i].lengths], np.int64)
        size = loaded.options.batch
        if max_steps is not None and len(lengths):  # a batch is padded to its longest input
            size = min(size, max(1, max_steps // max(1, int(lengths.max()))))
        predictions = iter(self._predicted(loaded.model, loaded.codec, encoded, lengths, size))
        for i in accepted:
            results[i] = [
                row
                for number, example in enumerate(results[i].examples, 1)
                for row in self._rows_of(loaded, number, example, next(predictions))
            ]
        return results

    def _encoded_request(
        self, loaded: Loaded, inputs: Sequence[Input], max_steps: int | None
    ) -> "_EncodedRequest | BadInput":
        """Encode the inputs of a request, or return the error of the first unusable one."""
        try:
            examples = [self._example(loaded, item, number) for number, item in enumerate(inputs, 1)]
            encoded = [loaded.codec.encode(example) for example in examples]
            lengths = [length for _, length in encoded]
            check_steps("inputs", sum(lengths), max_steps)
        except BadInput as error:
            return error
        return _EncodedRequest(examples, [item for item, _ in encoded], lengths)

    @override
    def batch(self, loaded: Loaded, inputs: Any) -> Any:
        parsed = self._parsed(loaded, chain.from_iterable(self.parse_inputs(loaded, inputs)), count(1))
        encoded = [loaded.codec.encode(example)[0] for _, example in parsed]
        return to_device(loaded.codec.collate(encoded), device_of(loaded.model))

    def _parsed(self, loaded: Loaded, inputs: Iterable[Input], numbers: Iterator[int]) -> Iterator[tuple[int, Example]]:
        """Yield the numbers and examples of inputs; with `skip_bad`, without unusable ones."""
        for item, i in zip(inputs, numbers, strict=False):
            try:
                example = self._example(loaded, item, i)
            except BadInput as error:
                if not loaded.options.skip_bad:
                    raise BadInput(f"{error}; pass --skip-bad to skip it") from None
                note(f"{error}; skipped")
            else:
                yield i, example

    def _example(self, loaded: Loaded, item: Input, number: int) -> Example:
        """Return the example of an input; `number` is that of the input, from 1.

        Raises:
            BadInput: if it cannot be used.
        """
        try:
            check_texts("predict", item.value)
            value = item.value
            example = value if isinstance(value, Example) else self.parse_input(value, loaded.options)
        except BadInput as error:
            raise BadInput(f"{item.where}: {error}" if item.where else str(error)) from None
        unnamed = self.input_name and not example.name
        return example._replace(name=f"{self.input_name} {number}") if unnamed else example


class _EncodedRequest(NamedTuple):
    """The inputs of a request, encoded, and their numbers of time steps."""

    examples: list[Example]
    encoded: list[Any]
    lengths: list[int]


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield items in batches. A BadInput error of the iterable is raised after a batch of the items before it."""
    batch = list[T]()
    try:
        for item in items:
            batch.append(item)
            if len(batch) == size:
                yield batch
                batch = []
    except BadInput:
        if batch:
            yield batch
        raise
    if batch:
        yield batch
