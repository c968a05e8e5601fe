"""Classification and regression of sequences of numbers."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from typing_extensions import override

from elman.baselines import minirocket
from elman.data.batches import ByLength
from elman.data.examples import Example
from elman.data.parts import ExampleStore
from elman.decoding.quantiles import pinball_loss
from elman.errors import BadInput
from elman.io.format import counted
from elman.io.run_folder import Run
from elman.tasks.classification import CONFUSION, classification_metrics, stratified_split, target
from elman.tasks.codec import Codec
from elman.tasks.series import data as series_data
from elman.tasks.series.baselines import fit_baselines, load_baselines
from elman.tasks.series.codec import SeriesCodec
from elman.tasks.series.export import export
from elman.tasks.series.model import FOLDS, QUANTILES, SeriesBatch, SeriesNetwork
from elman.tasks.series.options import SeriesOptions
from elman.tasks.series.plots import of_labels, of_numbers, plot_numbers
from elman.tasks.supervised import Numbers, Plot, SupervisedTask, random_split
from elman.tasks.task import Loaded

MIN_VALIDATION_POOL = 500  # with fewer series, folds of the training part validate the members of the ensemble
MIN_STEPS = 20  # in an epoch of few series, which then has each several times
NATS, PINBALL = "nats_per_series", "scaled_pinball"


def resolve(
    data: Any, options: SeriesOptions, tell: Callable[[str], Any]
) -> tuple[SeriesOptions, series_data.SeriesExamples]:
    """Read the data, set the names of the channels, and tell what the data are."""
    if options.minirocket:
        minirocket.package()  # before hours of training
    options = options.model_copy(update={"channels": series_data.channel_names(data, options)})
    examples = series_data.SeriesExamples(series_data.read(data, options))
    if options.hold_out is None:
        is_small = len(examples) < MIN_VALIDATION_POOL and 1 < options.members <= FOLDS and not options.validation
        options = options.model_copy(update={"hold_out": "folds" if is_small else "part"})
    if options.hold_out == "folds" and options.validation:
        raise BadInput("series: --hold-out folds: expected no --validation, which names a part of its own; pass one")
    if options.hold_out == "folds" and not 1 < options.members <= FOLDS:
        raise BadInput(f"series: --hold-out folds: expected --members from 2 to {FOLDS}, got {options.members}")
    if examples:
        _check_channels(examples)
        tell(_described(examples))
    return options, examples


def _check_channels(examples: Sequence[Example]) -> None:
    """Check that all series have the same channels.

    Raises:
        BadInput: if they do not.
    """
    first, *others = examples
    for example in others:
        if example.input.shape[1] != first.input.shape[1]:
            got = f"{first.input.shape[1]} in {first.name} and {example.input.shape[1]} in {example.name}"
            raise BadInput(f"series: expected the same channels in all series, got {got}")


def _described(examples: Sequence[Example]) -> str:
    lengths = [len(example.input) for example in examples]
    low, high = min(lengths), max(lengths)
    channels = counted(examples[0].input.shape[1], "channel")
    missing = sum(int(np.isnan(example.input).sum()) for example in examples)
    values = sum(example.input.size for example in examples)
    parts = [channels, f"{low:,} steps" if low == high else f"{low:,} to {high:,} steps"]
    if isinstance(examples[0].target, float):
        numbers = [example.target for example in examples]
        parts.append(f"numbers from {min(numbers):.4g} to {max(numbers):.4g}")
    else:
        parts.append(counted(len({example.target for example in examples}), "label"))
    return ", ".join([*parts, *([f"{missing / values:.1%} of the values missing"] if missing else [])])


def split(task: SupervisedTask, examples: ExampleStore, seed: int, parts: Sequence[str]) -> Numbers:
    """Split at random by a seed, stratified by labels if there are labels."""
    by_number = all(isinstance(label, float) for label in examples.labels)
    return (random_split if by_number else stratified_split)(task, examples, seed, parts)


def parse_input(value: Any, options: SeriesOptions) -> Example:
    """Return an in-memory series as an example without a target."""
    if isinstance(value, str | Path):
        raise BadInput(f"expected a series or a file of series, got {str(value)!r:.60}, which is no file")
    return series_data.example_of(series_data.values_of(value, "series"), None, "", "series")


def read_texts(path: Path, loaded: Loaded) -> Iterable[Example]:
    """Read the series in a file, as for the training; labels and numbers are not needed."""
    return series_data.read_path(path, loaded.options, needs_target=False)


def metrics(codec: SeriesCodec, predictions: Sequence[Any], targets: Sequence[Any]) -> dict[str, float]:
    """Return the metrics of labels, or of numbers.

    Of numbers: the mean absolute error, the root mean squared error, R2, the pinball loss in standard deviations of the
    training numbers, and the coverage, the share of numbers between the lowest and the highest quantile.
    """
    if codec.labels:
        return classification_metrics(codec, predictions, targets, NATS)
    y, q = np.array(targets), np.stack(predictions)
    low, median, high = q.T
    error, spread = y - median, np.square(y - y.mean()).sum()
    loss = pinball_loss(torch.from_numpy(q), torch.from_numpy(y), torch.tensor(QUANTILES, dtype=torch.float64))
    return {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt(np.square(error).mean())),
        "r2": float(1 - np.square(error).sum() / spread) if spread > 0 else 0.0,
        PINBALL: float(loss.mean()) / codec.target_std,
        "coverage": float(((low <= y) & (y <= high)).mean()),
    }


def validated_on_folds(labels: Sequence[Any], pool: Sequence[int], members: int, seed: int) -> Numbers:
    """Return the series of the training part, in the order of their folds, and those of the validation part.

    Fold i % 10 of the i-th series is left out by one member of the ensemble, if it is less than the number of members,
    and validates it: each member is trained on nine tenths, and all together on all series.

    Args:
        labels: the label or number of each series.
        pool: the indices of the series that are not for the test.
        members: networks of the ensemble.
        seed: the random seed.

    >>> numbers = validated_on_folds(["a", "b"] * 10, range(20), 2, seed=0)
    >>> sorted(numbers["train"]) == list(range(20)), len(numbers["validation"])
    (True, 4)
    """
    order = np.random.default_rng(seed).permutation(np.array(pool, np.int64)).tolist()
    order.sort(key=lambda i: labels[i])  # equal shares of each label in each fold
    return {"train": order, "validation": [i for at, i in enumerate(order) if at % FOLDS < members]}


class SeriesTask(SupervisedTask):
    """Series to labels or to numbers, whose losses and scores have different names."""

    @override
    def draw_split(self, examples: ExampleStore, options: SeriesOptions, seed: int, parts: Sequence[str]) -> Numbers:
        """Draw the parts; with few series, those for validation are folds of the training part."""
        if options.hold_out != "folds" or "validation" not in parts:
            return super().draw_split(examples, options, seed, parts)
        others = [name for name in parts if name != "validation"]
        numbers = super().draw_split(examples, options, seed, others)
        return numbers | validated_on_folds(examples.labels, numbers["train"], options.members, seed)

    @override
    def batches(self, codec: Codec, examples: Iterable[Example], batch: int, seed: int | None) -> ByLength:
        """Make batches by length; those for training and validation know the folds of their series."""
        if not isinstance(codec, SeriesCodec) or not codec.folds:
            return super().batches(codec, examples, batch, seed)
        encoded, lengths = self._encoded(codec, examples)
        N, period = len(encoded), codec.folds if seed is None else FOLDS

        def collate(numbers: list[int], epoch: int) -> SeriesBatch:
            return codec.collate([encoded[i] for i in numbers])._replace(folds=torch.tensor(numbers) % period)

        passes = 1 if seed is None else -(-MIN_STEPS * batch // N)  # in an epoch, so that validations take less time
        return ByLength(lengths, batch, collate, seed, passes)

    @override
    def loss_of(self, run: Run) -> str:
        return self.loss if _has_labels(run) else PINBALL

    @override
    def score_of(self, run: Run) -> str:
        return self.score if _has_labels(run) else "-mae"


def _has_labels(run: Run) -> bool:
    return bool(run.config["model"].get("labels"))


TASK = SeriesTask(
    name="series",
    description="a reader of series",
    options=SeriesOptions,
    resolve=resolve,
    read=series_data.read,
    parse_input=parse_input,
    read_texts=read_texts,
    codec=SeriesCodec,
    model=SeriesNetwork,
    unit="series",
    loss=NATS,
    score="accuracy",
    metrics=metrics,
    split=split,
    label=target,
    fit_baselines=fit_baselines,
    load_baselines=load_baselines,
    export=export,
    json_inputs=list[list[list[float | None]] | list[float | None]],  # series of steps of channels, or of values
    plots=(
        Plot(CONFUSION.file, CONFUSION.caption, of_labels(CONFUSION.draw)),
        Plot("predictions.png", "Predicted and true numbers of the test part.", of_numbers(plot_numbers)),
    ),
    input_name="series",
    next_step="to use it: elman predict {run} FILE",
)
