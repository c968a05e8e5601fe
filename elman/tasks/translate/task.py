"""Translation of sentences."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor
from typing_extensions import override

from elman.data.disk_list import DiskList, MappedList
from elman.data.examples import Example, is_files
from elman.data.row_stream import RowReader
from elman.data.validation import text_of
from elman.errors import BadInput
from elman.tasks.plots import attention_plot
from elman.tasks.supervised import SupervisedTask, describe_text
from elman.tasks.task import Loaded
from elman.tasks.text_output import (
    TextOutputCodec,
    Vocabulary,
    decoder_args,
    text_metrics,
    text_metrics_note,
)
from elman.tasks.translate import data as sentences
from elman.tasks.translate.baselines import fit_baselines, load_baselines
from elman.tasks.translate.export import export
from elman.tasks.translate.model import Translator
from elman.tasks.translate.options import TranslateOptions

METRICS = ("bleu", "chrf")


@dataclass(frozen=True)
class TranslateCodec(TextOutputCodec):
    """Encodes sentences of two languages as tokens.

    Attributes:
        target, longest, beam: as in `TextOutputCodec`.
        read: the vocabulary of the source.
    """

    read: Vocabulary

    output_column: ClassVar[str] = "translation"

    @classmethod
    @override
    def fit(cls, train: Sequence[Example], options: TranslateOptions) -> "TranslateCodec":
        """Fit both vocabularies; byte pairs are fitted on both languages together."""
        pairs = DiskList((example.input, example.target) for example in train)  # read several times
        sources, targets = MappedList(pairs, itemgetter(0)), MappedList(pairs, itemgetter(1))
        if options.tokens == "bpe":
            read = target = Vocabulary.fit("bpe", MappedList(pairs, " ".join), options.vocabulary)
        else:
            read, target = (Vocabulary.fit(options.tokens, side, options.vocabulary) for side in (sources, targets))
        return cls(target, target.longest(targets), options.beam, read)

    @override
    def model_args(self, options: TranslateOptions) -> dict[str, Any]:
        return {"source": len(self.read), "vocabulary": len(self.target)} | decoder_args(options)

    @override
    def source(self, example: Example) -> Tensor:
        """Return the tokens of the source, (S,)."""
        return self.read.encode(example.input)


def read(data: Any, options: TranslateOptions) -> Iterable[Example]:
    """Read pairs of sentences from files or Python objects."""
    if data is None:
        raise BadInput("translate: expected DATA, a file of pairs or two files with one language each, got none")
    return sentences.read(data, options) if is_files(data) else sentences.read_pairs(data, options.skip_bad)


def parse_input(value: Any, options: TranslateOptions) -> Example:
    """Parse a sentence."""
    return Example(value if isinstance(value, str) else text_of(value, "predict"))


def read_texts(path: Path, loaded: Loaded) -> Iterable[Example]:
    """Read the sentences in a file, one in each line; text after a tab is ignored."""
    return sentences.read_inputs(path, loaded.options)


def check_lines(lines: Sequence[str], loaded: Loaded) -> None:
    """Check that lines of standard input are sentences, not pairs of a sentence and its translation."""
    sides_of_lines = [line.split("\t") for line in lines]
    if len(lines) > 1 and all(len(sides) == 2 and all(map(str.strip, sides)) for sides in sides_of_lines):
        raise BadInput(
            "standard input: expected one sentence per line, got tab-separated pairs of texts; to translate "
            f"the first of each pair, pass -: elman predict {loaded.run.path} -"
        )


TASK = SupervisedTask(
    name="translate",
    description="a translator",
    options=TranslateOptions,
    read=read,
    rows=RowReader(
        columns=lambda options: {"--source-column": options.source_column, "--target-column": options.target_column},
        to_example=sentences.from_row,
    ),
    parse_input=parse_input,
    read_texts=read_texts,
    check_lines=check_lines,
    describe=describe_text,
    codec=TranslateCodec,
    model=Translator,
    unit="tokens",
    examples="pairs",
    loss="nats_per_token",
    score="bleu",
    metrics=partial(text_metrics, names=METRICS),
    metrics_note=partial(text_metrics_note, METRICS),
    fit_baselines=fit_baselines,
    load_baselines=load_baselines,
    export=export,
    plots=(
        attention_plot(
            "The attention of each output token over the source, in a sentence of the test part.",
            lambda codec, source: codec.read.pieces(source.tolist()),
        ),
    ),
    accepts_texts=True,
    next_step='to use it: elman predict {run} "a sentence"',
)
