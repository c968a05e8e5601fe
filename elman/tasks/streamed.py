"""Training data that are read from files in every epoch (`--stream`), for tasks of examples and for texts."""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elman.data.examples import Example, is_files
from elman.data.parts import ExampleStore, Part, SplitRecord, Splits
from elman.data.row_files import RowFiles, resolved
from elman.data.row_stream import RowReader, RowStream, Survey
from elman.data.streamed_batches import StreamedExamples
from elman.data.validation import described
from elman.errors import BadInput
from elman.io.format import counted
from elman.io.run_folder import Run
from elman.io.terminal import note
from elman.options import PARTS
from elman.tasks.task import PreparedData
from elman.training.processes import gathered, is_first, of_process, place

if TYPE_CHECKING:
    from elman.tasks.supervised import SupervisedTask

SAMPLE_BYTES = 1 << 25  # approximate size of the sample that codec and baselines are fitted on
MAX_TESTED = 200  # examples of the test part that a report and a recording of the gradient flow choose from


def row_files(task: str, data: Any, columns: dict[str, str]) -> RowFiles:
    """Open the files of streamed data.

    Args:
        task: the name of the task, for messages.
        data: files and folders.
        columns: as for `RowFiles`.

    Raises:
        BadInput: for other data; as `RowFiles`.
    """
    if not is_files(data):
        got = "none" if data is None else described(data)
        raise BadInput(f"{task}: --stream: expected Parquet or Arrow files, or folders of them, got {got}")
    return RowFiles(data, columns)


def surveyed(
    stream: RowStream,
    labels: Callable[[Example], Iterable[Hashable]],
    size: Callable[[Example], int] = lambda example: 1,
) -> Survey:
    """Survey all rows. Several processes share the work: all must call this.

    Args:
        stream: the rows.
        labels: as in `RowReader`.
        size: returns the number of units of an example.

    Returns:
        The survey of all rows, the same on every process.

    Raises:
        BadInput: for files or rows that cannot be used.
    """
    groups = stream.groups_of(place().rank, place().world_size)
    surveys = gathered(Survey.of(stream, groups, labels, size))
    survey = of_process(Survey.merged(surveys) if is_first() else surveys[0])
    for line in survey.notes if is_first() else ():
        note(f"{line}; skipped")
    if survey.skipped and is_first():
        note(f"skipped {counted(survey.skipped, 'unusable row')}")
    return survey


def prepare(
    task: "SupervisedTask", data: Any, options: Any, seed: int, run: Run | None, tell: Callable[[str], Any] | None
) -> PreparedData:
    """Survey data, fit the codec on a sample of the training part, and batch what is read again in every epoch.

    Args:
        task: the task.
        data: files and folders.
        options: the options of the task.
        seed: the random seed of parts and order.
        run: a run whose codec is used.
        tell: as for `Task.prepare`.

    Raises:
        BadInput: for data that cannot be used.
    """
    stores = task.stores_of_parts(options)
    reader, stream = _stream(task, data, options, seed, [name for name in PARTS if name not in stores])
    survey = surveyed(stream, reader.labels)
    for name in stream.parts:
        stores[name] = _store(task, _with_known_labels(survey, name, reader))
    splits = Splits(*(Part(store, range(len(store))) for store in _stores_in_order(task, survey, stores)))
    codec = task.codec_for(splits, options, run)
    train = StreamedExamples(
        stream, survey.sizes, options.batch, options.shuffle_rows, codec.encode, codec.collate, seed,
        spare=codec.encode(splits.train[0])[0],
    )  # fmt: skip
    validation = task.batches(codec, splits.validation, options.batch, None)
    held_out = {name: len(getattr(splits, name)) for name in PARTS}
    facts = facts_of(data, stream, survey.sha256, SplitRecord.of(splits).sha256)
    facts |= {"train": survey.examples, **held_out} | ({"skipped": survey.skipped} if survey.skipped else {})
    examples = task.examples or task.unit
    summary = (
        f"{described_files(stream)}: {survey.examples:,} {examples} for training, {held_out['validation']:,} for "
        f"validation, {held_out['test']:,} for test; what is fitted before training, and the baselines, are from a "
        f"sample of {len(splits.train):,} {examples}"
    )
    saved = {"codec.json": codec.to_json() + "\n", **task.extra_files(splits, options, data)}
    name, args, details = ", ".join(map(str, data)), codec.model_args(options), (codec, splits, options, seed)
    first_weights = task.first_weights(codec, splits.train, options, run, tell)
    return PreparedData(name, facts, args, summary, options, train, validation, saved, details, first_weights)


def facts_of(data: Sequence[Path], stream: RowStream, *digests: str) -> dict[str, Any]:
    """Return the entries of config.json about streamed data; the digests are those of all examples."""
    digest = hashlib.sha256("".join(digests).encode()).hexdigest()
    return {"files": [resolved(path) for path in data], "sha256": digest, "rows": stream.files.rows}


def described_files(stream: RowStream) -> str:
    """Return the number of rows and files, for the line about the data."""
    return f"{stream.files.rows:,} rows in {counted(len(stream.files.files), 'file')}, streamed"


def beginning_of_test_part(task: "SupervisedTask", data: Any, options: Any, seed: int) -> Sequence[Example]:
    """Return the first examples of the test part, without reading more of the files than is needed.

    Args:
        task: the task.
        data: the files that a run was trained on.
        options: the options of the task.
        seed: the random seed of the run.
    """
    stores = task.stores_of_parts(options)
    if "test" in stores:
        return stores["test"]
    _, stream = _stream(task, data, options, seed, [name for name in PARTS if name not in stores])
    examples = (example for _, block in stream.read(range(len(stream.files.groups))) for _, example in block)
    return list(islice((example for example in examples if stream.part_of(example)[0] == "test"), MAX_TESTED))


def _stream(
    task: "SupervisedTask", data: Any, options: Any, seed: int, parts: Sequence[str]
) -> tuple[RowReader, RowStream]:
    reader = task.rows
    assert reader is not None, "checked by `SupervisedTask.prepare`"
    files = row_files(task.name, data, reader.columns(options))

    def to_example(*row: Any) -> Example:
        return reader.to_example(*row, options)

    return reader, RowStream(files, to_example, parts, seed, SAMPLE_BYTES, options.skip_bad)


def _store(task: "SupervisedTask", examples: Iterable[Example]) -> ExampleStore:
    return ExampleStore(examples, task.store, task.label, task.has_duplicates)


def _stores_in_order(
    task: "SupervisedTask", survey: Survey, stores: dict[str, ExampleStore]
) -> tuple[ExampleStore, ExampleStore, ExampleStore]:
    """Return the stores of the sample, of the validation part and of the test part.

    Raises:
        BadInput: for a part without examples.
    """
    sample = _store(task, survey.sample())
    for name, store in {"train": sample, **stores}.items():
        if not len(store):
            hint = "add data" if name == "train" else f"add data, or pass --{name}"
            raise BadInput(f"{task.name}: --stream: expected more rows, got none for {name}; {hint}")
    return sample, stores["validation"], stores["test"]


def _with_known_labels(survey: Survey, name: str, reader: RowReader) -> list[Example]:
    """Return the examples of a part that is held out, without those whose labels no example for training has."""
    examples = survey.part(name)
    known = [example for example in examples if all(label in survey.labels for label in reader.labels(example))]
    if len(known) < len(examples) and is_first():
        rows = counted(len(examples) - len(known), "row")
        note(f"left out of {name}: {rows} with a label that no row for training has")
    return known
