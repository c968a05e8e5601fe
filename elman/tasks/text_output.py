"""Tasks whose output is a text: vocabularies, codecs, metrics."""

import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from pydantic import Field, PlainSerializer, PlainValidator
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import override

from elman.data import tokenizers
from elman.data.disk_list import MappedList
from elman.data.examples import Example
from elman.data.token_kinds import Kind
from elman.decoding.attention_decoder import Pairs, Writer
from elman.io.schema import BeamWidth
from elman.tasks.codec import Codec
from elman.tasks.metrics import METRICS, SIGNATURES
from elman.tasks.text_output_options import TextOutputOptions

MAX_LENGTH = 10_000  # tokens of an output: one that never ends would take for ever


class TextPrediction(NamedTuple):
    """A predicted text.

    text: the text.
    source: (S, ...), the encoded source.
    pieces: the output tokens.
    attention: (T, S), the attention of each output token over the steps of the source.
    """

    text: str
    source: Tensor | None = None
    pieces: Sequence[str] = ()
    attention: Tensor | None = None


@dataclass(frozen=True)
class Vocabulary:
    """Converts texts to tokens and back; the last token ends a text.

    Args:
        tokenizer: of `elman.data.tokenizers`.
        before: a prefix of every text: a space, so that its first word is the same token as elsewhere.

    >>> words = Vocabulary.fit("word", ["a red house", "a blue one"], 0)
    >>> words.decode(words.encode("one red house").tolist())
    'one red house'
    """

    tokenizer: Annotated[
        Tokenizer,
        PlainValidator(tokenizers.restored, json_schema_input_type=dict[str, Any]),
        PlainSerializer(lambda tokenizer: json.loads(tokenizer.to_str())),
    ]
    before: str

    @classmethod
    def fit(cls, kind: Kind, texts: Sequence[str], size: int) -> "Vocabulary":
        """Fit a tokenizer on texts."""
        before = "" if kind == "char" else " "
        return cls(tokenizers.fit(kind, MappedList(texts, before.__add__), size), before)

    def longest(self, texts: Sequence[str]) -> int:
        """Return the number of tokens of the longest text, as the limit of outputs; at most `MAX_LENGTH`."""
        return min(max(len(self.encode(text)) for text in texts), MAX_LENGTH)

    @cached_property
    def end(self) -> int:
        """The token that ends a text."""
        return self.tokenizer.get_vocab_size()

    def __len__(self) -> int:
        return self.end + 1

    @property
    def never(self) -> Tensor:
        """Tokens that are never generated: the unknown token."""
        unknown = self.tokenizer.token_to_id(tokenizers.UNKNOWN)
        return torch.tensor([] if unknown is None else [unknown], dtype=torch.long)

    def encode(self, text: str) -> Tensor:
        """Return the tokens of a text, (T,), with a final end token."""
        return torch.tensor([*self.tokenizer.encode(self.before + text).ids, self.end])

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens."""
        text: str = self.tokenizer.decode([i for i in ids if i != self.end])
        return text.removeprefix(self.before)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Return each token as a readable text."""
        return [" end" if i == self.end else self.tokenizer.decode([i]) or "?" for i in ids]


@dataclass(frozen=True)
class TextOutputCodec(Codec):
    """A codec whose predictions are texts.

    Attributes:
        target: the vocabulary of the output.
        longest: the largest number of tokens of an output; at most `MAX_LENGTH`.
        beam: beam width.
    """

    target: Vocabulary
    longest: Annotated[int, Field(ge=1, le=MAX_LENGTH)]
    beam: BeamWidth

    output_column: ClassVar[str]  # of the rows of predictions

    @abstractmethod
    def source(self, example: Example) -> Tensor:
        """Return the input of the encoder, (S, ...)."""

    @override
    def encode(self, example: Example) -> tuple[tuple[Tensor, Tensor], int]:
        """Return source and target, and the length of the longer one."""
        source, target = self.source(example), self.target.encode(example.target or "")
        return (source, target), max(len(source), len(target))

    @override
    def collate(self, encoded: Sequence[tuple[Tensor, Tensor]]) -> Pairs:
        return Pairs(*pad([source for source, _ in encoded]), *pad([target for _, target in encoded]))

    @override
    def predict(self, model: Writer, batch: Pairs) -> list[TextPrediction]:
        """Predict texts by beam search, with the attention of each token."""
        outputs = model.write(batch.source, batch.lengths, self.beam, self.longest, self.target.never)
        ids = [torch.tensor([*row, self.target.end]) for row in outputs]
        targets = (part.to(batch.source.device) for part in pad(ids))
        _, attention = model(Pairs(batch.source, batch.lengths, *targets))
        sources, weights = batch.source.cpu(), attention.cpu()
        return [
            TextPrediction(
                self.target.decode(outputs[b]),
                sources[:S, b],
                self.target.pieces(ids[b].tolist()),
                weights[b, : len(ids[b]), :S],
            )
            for b, S in enumerate(batch.lengths.tolist())
        ]

    @override
    def to_row(self, prediction: TextPrediction) -> dict[str, Any]:
        return {self.output_column: prediction.text}


def decoder_args(options: TextOutputOptions) -> dict[str, Any]:
    """Return the arguments of a model that are options."""
    names = ("cell", "hidden", "layers", "embed", "dropout", "bptt", "smoothing")
    return {name: getattr(options, name) for name in names}


def text_metrics(
    codec: TextOutputCodec, predictions: Sequence[TextPrediction], targets: Sequence[str], names: Sequence[str]
) -> dict[str, float]:
    """Return metrics by their names in `METRICS`."""
    return {name: METRICS[name]([prediction.text for prediction in predictions], targets) for name in names}


def text_metrics_note(names: Sequence[str]) -> str:
    """Return the sacrebleu signatures of metrics, for reproducibility."""
    return ", ".join(SIGNATURES[name]() for name in names if name in SIGNATURES)


def pad(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return sequences padded with zeros, (T, B, ...), and their lengths (B,)."""
    return pad_sequence(rows), torch.tensor([len(row) for row in rows])
