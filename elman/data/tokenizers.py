"""Convert text to token ids and back: characters, words or byte pairs, all stored as tokenizer.json."""

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from elman.data.disk_list import joined
from elman.data.token_kinds import KINDS, Kind
from elman.io.files import read_bytes
from elman.io.schema import parsed, restoring

UNKNOWN = "<unk>"

# A word includes the space before it, so that joining tokens restores the text exactly.
_WORD = Regex(r" ?[\p{L}\p{M}]+(?:['\x{2019}][\p{L}\p{M}]+)*| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]|\s")
_CHARACTER = Regex(r"[\s\S]")
_BLOCK = 1 << 16  # minimum number of characters tokenized at once
_AT_ONCE = 16  # blocks tokenized in parallel
_CUT = re.compile(r"(?<=\S)(?=\s)")  # no word or byte pair crosses such a place
_SMALL = 1_000  # words; in a longer text, words that occur once are unknown, so that the model learns "unknown" too


def fit(kind: Kind, text: str | Iterable[str], vocabulary: int = 0) -> Tokenizer:
    """Fit a tokenizer to a text.

    Args:
        kind: "char", "word" or "bpe" (byte-level).
        text: the training text, whole or in pieces, which are iterated twice. Characters and words that it does not
            contain are unknown.
        vocabulary: maximum number of tokens; 0 means the default in `KINDS`.

    >>> tokenizer = fit("word", "please stay at home, please stay")
    >>> tokenizer.decode(encode(tokenizer, "please stay at home").tolist())
    'please stay at home'
    """
    size = vocabulary or KINDS[kind]
    if kind == "char":
        characters = set[str]()
        for piece in _pieces(text):
            characters.update(piece)
        return _table(sorted(characters), _CHARACTER)
    if kind == "word":
        counter = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        counter.pre_tokenizer = pre_tokenizers.Split(_WORD, "isolated")
        least = 1 if _is_small(text) else 2
        trainer = trainers.WordLevelTrainer(
            vocab_size=max(size - 1, 1), min_frequency=least, show_progress=False, special_tokens=[]
        )
        counter.train_from_iterator(blocks(text), trainer)
        ids = counter.get_vocab()
        return _table(sorted(ids, key=lambda word: ids[word]), _WORD)
    tokenizer = _byte_pairs()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    pairs = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(blocks(text), pairs)
    return tokenizer


def _is_small(text: str | Iterable[str]) -> bool:
    """Return whether a text has few words."""
    return all(count < _SMALL for count in accumulate(piece.count(" ") for piece in _pieces(text)))


def _pieces(text: str | Iterable[str]) -> Iterable[str]:
    return [text] if isinstance(text, str) else text


def _table(tokens: list[str], pieces: Regex) -> Tokenizer:
    ids = {token: index for index, token in enumerate([UNKNOWN, *tokens])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pieces, "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def _byte_pairs() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def load(path: Path) -> Tokenizer:
    """Read a tokenizer.json.

    Raises:
        BadInput: if the file is missing or damaged.
    """
    with restoring(path, "a tokenizer"):
        return restored(parsed(read_bytes(path)))


def restored(content: Any) -> Tokenizer:
    """Restore a tokenizer from its parsed JSON.

    Raises:
        ValueError: if it is not a tokenizer that `fit` returns.
    """
    model = content["model"]
    settings = _model_settings().get(model["type"])
    if settings is None:
        raise ValueError(f"one with the model {model['type']!r:.60}")
    for name in model.keys() & settings:  # the library crashes at some: at a prefix longer than a token, for example
        if model[name] != settings[name]:
            raise ValueError(f"one with {name} {model[name]!r:.60}")
    try:
        tokenizer = Tokenizer.from_str(json.dumps(content))
    except Exception as error:  # the library raises plain Exception
        raise ValueError(error) from None
    missing = [part for part in ("pre_tokenizer", "decoder") if getattr(tokenizer, part) is None]
    if missing:
        raise ValueError(f"one without a {missing[0]}")
    if not isinstance(tokenizer.model, models.BPE) and tokenizer.token_to_id(UNKNOWN) is None:
        raise ValueError(f"one without {UNKNOWN}")
    # Before the tokenizer is written as JSON, for which the library lists all numbers that are missing.
    if set(tokenizer.get_vocab().values()) != set(range(tokenizer.get_vocab_size())):
        raise ValueError("one whose tokens are not numbered from 0 without gaps")
    if _around_model(tokenizer) not in _pipelines():  # the pattern of a stranger might take for ever on a text
        raise ValueError("one that splits texts in another way than those of elman")
    return tokenizer


def _around_model(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return all parts of a tokenizer but its model, as JSON."""
    content = json.loads(tokenizer.to_str())
    return {name: part for name, part in content.items() if name not in ("version", "model")}


@cache
def _pipelines() -> list[dict[str, Any]]:
    """Return all parts but the model of the tokenizers that `fit` returns."""
    return [_around_model(tokenizer) for tokenizer in _empty()]


@cache
def _model_settings() -> dict[str, dict[str, Any]]:
    """Return the settings of the models of the tokenizers that `fit` returns, by type."""
    contents = [json.loads(tokenizer.to_str())["model"] for tokenizer in _empty()]
    learned = ("type", "vocab", "merges")
    return {model["type"]: {name: model[name] for name in model.keys() - learned} for model in contents}


def _empty() -> list[Tokenizer]:
    return [_table([], _CHARACTER), _table([], _WORD), _byte_pairs()]


def blocks(text: str | Iterable[str]) -> Iterator[str]:
    """Cut a text into blocks that tokenize as the whole text does, to limit memory and use all cores."""
    rest, offset = "", _BLOCK  # offset from which to look for a cut
    for piece in _pieces(text):
        rest += piece
        begin = 0
        while match := _CUT.search(rest, begin + offset):
            yield rest[begin : match.start()]
            begin, offset = match.start(), _BLOCK
        rest = rest[begin:]
        offset = max(len(rest), _BLOCK)
    if rest:
        yield rest


def encode(tokenizer: Tokenizer, text: str | Iterable[str]) -> NDArray[np.int32]:
    """Return the token ids (N,) of a text, whole or in pieces. A very long result is memory-mapped."""
    if _is_characters(tokenizer):
        return joined(map(_Characters(tokenizer), _pieces(text)))
    return joined(_encoded(tokenizer, text))


def _encoded(tokenizer: Tokenizer, text: str | Iterable[str]) -> Iterator[NDArray[np.int32]]:
    rest = blocks(text)
    while batch := list(islice(rest, _AT_ONCE)):
        yield from (np.array(encoding.ids, np.int32) for encoding in tokenizer.encode_batch_fast(batch))


def _is_characters(tokenizer: Tokenizer) -> bool:
    if not isinstance(tokenizer.model, models.WordLevel) or tokenizer.token_to_id(UNKNOWN) is None:
        return False
    return len(tokenizer.pre_tokenizer.pre_tokenize_str("aa")) == 2


class _Characters:
    """The tokenizer of characters in NumPy, a hundred times as fast."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        ids = {ord(token): index for token, index in tokenizer.get_vocab().items() if len(token) == 1}
        self._ids = np.full(max(ids, default=0) + 2, tokenizer.token_to_id(UNKNOWN), np.int32)
        self._ids[list(ids)] = list(ids.values())

    def __call__(self, text: str) -> NDArray[np.int32]:
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
        ids: NDArray[np.int32] = self._ids[np.minimum(codes, len(self._ids) - 1)]
        return ids


def token_bytes(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Return the number of UTF-8 bytes of each token, (V,); 0 for the unknown token."""
    size = tokenizer.get_vocab_size()
    names = [tokenizer.id_to_token(index) or "" for index in range(size)]
    if isinstance(tokenizer.model, models.BPE):  # byte-level: one character of the token's name for each byte
        return np.array([len(token) for token in names])
    return np.array([0 if token == UNKNOWN else len(token.encode()) for token in names])


def split_known(tokenizer: Tokenizer, text: str) -> tuple[str, list[str]]:
    """Split a text into the part that the tokenizer knows and a list of the distinct pieces that it does not know.

    A first word that is known only with a leading space is given that space.
    """
    if isinstance(tokenizer.model, models.BPE):
        return text, []
    pieces = [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
    if pieces and tokenizer.token_to_id(pieces[0]) is None and tokenizer.token_to_id(" " + pieces[0]) is not None:
        pieces[0] = " " + pieces[0]
    known = [piece for piece in pieces if tokenizer.token_to_id(piece) is not None]
    unknown = [piece for piece in pieces if tokenizer.token_to_id(piece) is None]
    return "".join(known), list(dict.fromkeys(unknown))
