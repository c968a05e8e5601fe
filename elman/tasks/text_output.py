"""Tasks whose answer is a text: tokens, what is measured, what is said."""

import json
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

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
from elman.tasks.supervised import SupervisedTask
from elman.tasks.text_scores import SCORES, SIGNATURES


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

    def kept(self) -> dict[str, Any]:
        """For JSON."""
        return {"tokenizer": json.loads(self.tokenizer.to_str()), "before": self.before}

    @classmethod
    def restored(cls, kept: dict[str, Any]) -> "Vocabulary":
        """The same of its JSON.

        Raises:
            ValueError, TypeError, KeyError: if it is none.
        """
        check("before", kept["before"], str)
        return cls(tokenizers.restored(json.dumps(kept["tokenizer"])), kept["before"])

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """Each token for people."""
        return [" end" if i == self.end else self.tokenizer.decode([i]) or "?" for i in ids]


class TextOutputTask(SupervisedTask):
    """A task whose answer is a text. A codec has `target`, a `Vocabulary`; `longest`, tokens; `beam`, how wide."""

    unit = "tokens"
    loss = "nats_per_token"
    answer: ClassVar[str]  # what is written, as a column
    scores: ClassVar[tuple[str, ...]]  # names in `SCORES`

    @abstractmethod
    def steps(self, codec: Any, example: Example) -> Tensor:
        """What the encoder reads of an example, (S, ...)."""

    def asked(self, options: Any) -> dict[str, Any]:
        """The arguments of a model that the command line has."""
        names = ("cell", "hidden", "layers", "embed", "dropout", "bptt", "smoothing")
        return {name: getattr(options, name) for name in names}

    def encode(self, codec: Any, example: Example) -> tuple[tuple[Tensor, Tensor], int]:
        """As there: what is read, and what is to be written; of both the longer one counts."""
        source, target = self.steps(codec, example), codec.target.encode(example.target or "")
        return (source, target), max(len(source), len(target))

    @override
    def collate(self, encoded: Sequence[tuple[Tensor, Tensor]]) -> Pairs:
        return Pairs(*side_by_side([source for source, _ in encoded]), *side_by_side([target for _, target in encoded]))

    def say(self, model: Writer, codec: Any, batch: Pairs) -> list[TextPrediction]:
        """As there, with the attention at each token."""
        found = model.write(batch.source, batch.lengths, codec.beam, codec.longest, codec.target.never)
        ids = [torch.tensor([*row, codec.target.end]) for row in found]
        _, attention = model(Pairs(batch.source, batch.lengths, *side_by_side(ids)))
        return [
            TextPrediction(
                codec.target.decode(found[b]),
                batch.source[:S, b],
                codec.target.pieces(ids[b].tolist()),
                attention[b, : len(ids[b]), :S],
            )
            for b, S in enumerate(batch.lengths.tolist())
        ]

    @override
    def row(self, codec: Any, said: TextPrediction) -> dict[str, Any]:
        return {self.answer: said.text}

    @override
    def measure(self, codec: Any, said: Sequence[TextPrediction], targets: Sequence[str]) -> dict[str, float]:
        return {name: SCORES[name]([one.text for one in said], targets) for name in self.scores}

    @override
    def signature(self) -> str:
        return ", ".join(SIGNATURES[name]() for name in self.scores if name in SIGNATURES)


def kept_texts(texts: Sequence[str]) -> Tensor:
    """Texts as numbers, for what a run keeps.

    >>> restored_texts(kept_texts(["one", "two"]))
    ['one', 'two']
    """
    return torch.tensor(list("\0".join(texts).encode()), dtype=torch.uint8)


def restored_texts(kept: Tensor) -> list[str]:
    """The same again."""
    return bytes(kept.tolist()).decode().split("\0")


def side_by_side(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Sequences as (T, B, ...), zeros behind their ends, and their lengths."""
    return pad_sequence(rows), torch.tensor([len(row) for row in rows])
