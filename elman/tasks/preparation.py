"""Tasks whose data are examples, from data to batches: read, split, encoded."""

import csv
import io
import json
from abc import abstractmethod
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from elman.data.batches import ByLength
from elman.data.disk_list import DiskList, Subset
from elman.data.examples import Example, Splits, check_texts, files_in, is_files, sha256_of
from elman.data.splits import components, drawn_parts, inputs_of, kept_split, repeated
from elman.errors import BadInput
from elman.io.files import read_bytes
from elman.io.json_fields import parsed, restoring
from elman.io.run_folder import Run
from elman.io.terminal import show
from elman.options import PARTS
from elman.tasks.codec import Codec, check_shape
from elman.tasks.prepared_data import Loaded, PreparedData
from elman.tasks.task import Task

T = TypeVar("T")


class PreparedTask(Task):
    """A task of examples.

    examples: what they are called, where the loss is counted over something else.
    codec_type: of what turns them to numbers and back.
    repeats: whether an example may be the same as one of another file.
    several: whether an input may have several targets, each in an example of its own. Then inputs are counted.
    """

    examples: ClassVar[str] = ""
    codec_type: ClassVar[type[Codec]]
    repeats: ClassVar[bool] = True
    several: ClassVar[bool] = False

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

    def check(self, codec: Any, examples: Sequence[Example]) -> None:
        """Whether a model can be scored on examples.

        Raises:
            BadInput: for a target that it cannot say.
        """

    def stored(self, items: Iterable[T]) -> Sequence[T]:
        """What was read or encoded, to be had by number; what memory does not take, from a file."""
        return DiskList(items)

    def settled(self, data: Any, options: Any, tell: Callable[[str], Any] = show) -> Any:
        """As there: where the files of parts are, seen from anywhere."""
        given = {name: data for name, data in _given(options).items() if is_files(data)}
        return replace(options, **{name: _resolved(paths) for name, paths in given.items()})

    def written(self, options: Any) -> dict[str, Any]:
        """As there, without parts that are no files."""
        return super().written(
            replace(options, **{n: None for n, data in _given(options).items() if not is_files(data)})
        )

    @override
    def prepare(self, data: Any, options: Any, seed: int, run: Run | None = None) -> PreparedData:
        parts, numbers = self.parts(data, options, seed, run)
        codec = self.codec(run) if run else self.fit(parts.train, options)
        for part in (parts.validation, parts.test):
            self.check(codec, part)
        train = self.batches(codec, parts.train, options.batch, seed)
        validation = self.batches(codec, parts.validation, options.batch, None)
        counts = {name: len(part) for name, part in parts._asdict().items()}
        files = _resolved(data) if is_files(data) else [] if data is None else None
        again = all(map(is_files, _given(options).values()))  # what was in Python cannot be read again
        facts = {"files": files if again else None, "sha256": sha256_of(parts), **counts}
        says = (
            f"{self._counted(parts.train)} to learn from, {inputs_of(parts.validation, self.several):,} to validate, "
            f"{inputs_of(parts.test, self.several):,} to test"
        )
        kept = {"codec.json": json.dumps(codec.kept(), ensure_ascii=False) + "\n", "split.csv": numbers}
        name = (
            ", ".join(map(str, data)) if files else self.default if data is None else f"{type(data).__name__} in Python"
        )
        rest = (codec, parts, options, seed)
        return PreparedData(name, facts, self.shape(codec, options), says, train, validation, kept, rest)

    default = ""  # the name of the data that are at hand anywhere

    def parts(self, data: Any, options: Any, seed: int, run: Run | None = None) -> tuple[Splits, str]:
        """What is to learn from, to choose by and to be scored on, and split.csv, which says so.

        Files for validation and test are used as they are. The rest is drawn by the seed; copies of an input, and
        examples of a group, stay together. A run that is there already keeps the split of its split.csv, so that it
        does not depend on how a later version draws.
        """
        given = _given(options)
        own = {name: self.stored(self.held_out(self._read(files, options), name)) for name, files in given.items()}
        examples = self.stored(self._read(data, options))
        names = [name for name in PARTS if name not in given]
        known = None if run is None else kept_split(run.path / "split.csv", examples, ["train", *names])
        drawn = known or self.split(examples, options, seed, names)
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows([("part", "number", "name")])
        found: dict[str, Sequence[Example]] = {}
        for name in Splits._fields:
            numbers: Sequence[int] = range(len(own[name])) if name in own else drawn[name]
            found[name] = own[name] if name in own else Subset(examples, numbers)
            csv.writer(table, lineterminator="\n").writerows(
                (name, i, example.name) for i, example in zip(numbers, found[name], strict=True)
            )
        if self.repeats:
            self._tell_repeated(found, given)
        return Splits(**found), table.getvalue()

    def _counted(self, examples: Sequence[Example]) -> str:
        """How many examples these are, for people."""
        inputs = inputs_of(examples, self.several)
        more = f" with {len(examples):,} texts" if inputs < len(examples) else ""
        return f"{inputs:,} {self.examples or self.unit}{more}"

    def _read(self, data: Any, options: Any) -> Iterator[Example]:
        """The examples in data, with no texts that could not be written."""
        for example in self.read(data, options):
            check_texts(example.name, example.name, example.input, example.target)
            yield example

    def _tell_repeated(self, found: dict[str, Sequence[Example]], given: Iterable[str]) -> None:
        """What is given for a part may be what is learned from, which makes its score say too much."""
        for name in given:
            many = repeated(found[name], found["train"], self.several)
            if many:
                use = "to validate" if name == "validation" else "to test"
                of = f"{inputs_of(found[name], self.several):,} {self.examples or self.unit}"
                show(f"{many:,} of the {of} {use} are among those to learn from, too")

    def split(self, examples: Sequence[Example], options: Any, seed: int, parts: Sequence[str]) -> dict[str, list[int]]:
        """The numbers of the examples that are trained on, "train", and of those of each part, which are others.

        Raises:
            BadInput: where there are too few.
        """
        return drawn_parts(components(examples), seed, parts, self.name)

    def others(self, loaded: Loaded, data: Any) -> Sequence[Example]:
        """Examples of other data than those of the training."""
        return self.stored(self.held_out(self._read(data, loaded.options), "test"))

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

    @override
    def codec(self, run: Run) -> Any:
        path = run.path / "codec.json"
        options = self.options_of(run)
        with restoring(path, f"what `elman train {self.name}` has written"):
            codec = self.codec_type.restored(parsed(read_bytes(path)))
            codec.check()
            shape = self.shape(codec, options)
        check_shape(run, shape, path)
        return codec

    def _again(self, loaded: Loaded) -> Splits:
        """The parts of a run's own data.

        Raises:
            BadInput: if these are not the same any more.
        """
        run = loaded.run
        parts, _ = self.parts(self.source(run), loaded.options, self.training_of(run).seed, run)
        if sha256_of(parts) != run.config["data"].get("sha256"):
            raise BadInput(f"{run.config['data'].get('name')} is no longer what this run was trained on")
        return parts


def _given(options: Any) -> dict[str, Any]:
    """The data of parts that are not drawn."""
    given = {name: files_in(getattr(options, name)) for name in PARTS}
    return {name: data for name, data in given.items() if data is not None}


def _resolved(paths: Sequence[Path]) -> list[str]:
    return [str(path.resolve()) for path in paths]
