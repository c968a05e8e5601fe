"""Tasks whose output is a text: vocabularies, codecs, metrics."""

import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple, Self

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from typing_extensions import override

from elman.data import tokenizers
from elman.data.disk_list import MappedList
from elman.data.examples import Example
from elman.decoding.attention_decoder import Pairs, Writer
from elman.io.json_fields import check
from elman.tasks.codec import Codec
from elman.tasks.metrics import METRICS, SIGNATURES
from elman.tasks.text_output_options import TextOutputOptions


class TextPrediction(NamedTuple):
    """A text that was written.

    text: as it is for people.
    source: (S, ...), what was read, encoded.
    pieces: the tokens that were written.
    attention: (T, S), how much of each step that was read went into each token.
    """

    text: str
    source: Tensor | None = None
    pieces: Sequence[str] = ()
    attention: Tensor | None = None


class Vocabulary:
    """Texts to tokens and back; the last token ends a text.

    Args:
        tokenizer: of `elman.data.tokenizers`.
        before: what a text gets before it: a space, so that its first word is the same token as within.

    >>> words = Vocabulary.fit("word", ["a red house", "a blue one"], 0)
    >>> words.decode(words.encode("one red house").tolist())
    'one red house'
    """

    def __init__(self, tokenizer: Tokenizer, before: str) -> None:
        self.tokenizer, self.before = tokenizer, before
        self.end = tokenizer.get_vocab_size()

    @classmethod
    def fit(cls, kind: str, texts: Sequence[str], size: int) -> "Vocabulary":
        """Of these texts."""
        before = "" if kind == "char" else " "
        return cls(tokenizers.fit(kind, MappedList(texts, before.__add__), size), before)

    def longest(self, texts: Sequence[str]) -> int:
        """The most tokens that any of these has."""
        return max(len(self.encode(text)) for text in texts)

    def __len__(self) -> int:
        return self.end + 1

    @property
    def never(self) -> Tensor:
        """Tokens that are not to be written: the unknown one."""
        unknown = self.tokenizer.token_to_id(tokenizers.UNKNOWN)
        return torch.tensor([] if unknown is None else [unknown], dtype=torch.long)

    def encode(self, text: str) -> Tensor:
        """Tokens (T), the end last."""
        return torch.tensor([*self.tokenizer.encode(self.before + text).ids, self.end])

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens."""
        text: str = self.tokenizer.decode([i for i in ids if i != self.end])
        return text.removeprefix(self.before)

    def to_dict(self) -> dict[str, Any]:
        """The vocabulary for JSON."""
        return {"tokenizer": json.loads(self.tokenizer.to_str()), "before": self.before}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Vocabulary":
        """The vocabulary from `to_dict`.

        Raises:
            ValueError, TypeError, KeyError: for anything else.
        """
        check("before", values["before"], str)
        return cls(tokenizers.restored(json.dumps(values["tokenizer"])), values["before"])

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Each token for people."""
        return [" end" if i == self.end else self.tokenizer.decode([i]) or "?" for i in ids]


@dataclass(frozen=True)
class TextOutputCodec(Codec):
    """A codec whose predictions are texts.

    Attributes:
        target: the vocabulary of the output.
        longest: the most tokens of an output.
        beam: beam width.
    """

    target: Vocabulary
    longest: int
    beam: int

    output_column: ClassVar[str]  # of the rows of predictions

    @abstractmethod
    def source(self, example: Example) -> Tensor:
        """What the encoder reads, (S, ...)."""

    @override
    def encode(self, example: Example) -> tuple[tuple[Tensor, Tensor], int]:
        """Source and target; the longer one counts."""
        source, target = self.source(example), self.target.encode(example.target or "")
        return (source, target), max(len(source), len(target))

    @override
    def collate(self, encoded: Sequence[tuple[Tensor, Tensor]]) -> Pairs:
        return Pairs(*pad([source for source, _ in encoded]), *pad([target for _, target in encoded]))

    @override
    def predict(self, model: Writer, batch: Pairs) -> list[TextPrediction]:
        """Texts by beam search, with the attention at each token."""
        outputs = model.write(batch.source, batch.lengths, self.beam, self.longest, self.target.never)
        ids = [torch.tensor([*row, self.target.end]) for row in outputs]
        _, attention = model(Pairs(batch.source, batch.lengths, *pad(ids)))
        return [
            TextPrediction(
                self.target.decode(outputs[b]),
                batch.source[:S, b],
                self.target.pieces(ids[b].tolist()),
                attention[b, : len(ids[b]), :S],
            )
            for b, S in enumerate(batch.lengths.tolist())
        ]

    @override
    def to_row(self, prediction: TextPrediction) -> dict[str, Any]:
        return {self.output_column: prediction.text}

    @override
    def to_dict(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: v.to_dict() if isinstance(v, Vocabulary) else v for name, v in values.items()}

    @classmethod
    @override
    def from_dict(cls, values: dict[str, Any]) -> Self:
        vocabularies = [field.name for field in fields(cls) if field.type in (Vocabulary, "Vocabulary")]
        return cls(**values | {name: Vocabulary.from_dict(values[name]) for name in vocabularies})


def decoder_args(options: TextOutputOptions) -> dict[str, Any]:
    """The arguments of a model that are options."""
    names = ("cell", "hidden", "layers", "embed", "dropout", "bptt", "smoothing")
    return {name: getattr(options, name) for name in names}


def text_metrics(
    codec: TextOutputCodec, predictions: Sequence[TextPrediction], targets: Sequence[str], names: Sequence[str]
) -> dict[str, float]:
    """Metrics by their names in `METRICS`."""
    return {name: METRICS[name]([prediction.text for prediction in predictions], targets) for name in names}


def text_metrics_note(names: Sequence[str]) -> str:
    """The signatures of these metrics, by which others can repeat them."""
    return ", ".join(SIGNATURES[name]() for name in names if name in SIGNATURES)


def pad(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Sequences padded with zeros, (T, B, ...), and their lengths (B,)."""
    return pad_sequence(rows), torch.tensor([len(row) for row in rows])
