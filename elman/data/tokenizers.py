"""Texts to token ids and back: characters, words or byte pairs, all as one kind of tokenizer.json."""

import re
from collections.abc import Iterable, Iterator
from itertools import accumulate, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from elman.data.disk_list import joined
from elman.data.token_kinds import KINDS
from elman.io.files import read_bytes
from elman.io.json_fields import restoring

UNKNOWN = "<unk>"

# Words carry the space before them, so that tokens joined together are the text again, to the character.
_WORD = Regex(r" ?[\p{L}\p{M}]+(?:['\x{2019}][\p{L}\p{M}]+)*| ?\p{N}+| ?[^\s\p{L}\p{M}\p{N}]|\s")
_CHARACTER = Regex(r"[\s\S]")
_BLOCK = 1 << 16  # characters at least that are tokenized at once
_AT_ONCE = 16  # blocks
_CUT = re.compile(r"(?<=\S)(?=\s)")  # where no word or byte pair reaches across
_SMALL = 1_000  # words; in a longer text those that occur once are left unknown, so that "unknown" is learnt too


def fit(kind: str, text: str | Iterable[str], vocabulary: int = 0) -> Tokenizer:
    """A tokenizer for this text.

    Args:
        kind: "char", "word" or "bpe" (byte-level).
        text: what it will be trained on, whole or in pieces, which are gone through twice; other text may have
            characters and words that it does not know.
        vocabulary: how many tokens at most; 0 for the default of the kind in `KINDS`.

    >>> tokenizer = fit("word", "please stay at home, please stay")
    >>> tokenizer.decode(encode(tokenizer, "please stay at home").tolist())
    'please stay at home'
    """
    size = vocabulary or KINDS[kind]
    if kind == "char":
        known = set[str]()
        for piece in _pieces(text):
            known.update(piece)
        return _table(sorted(known), _CHARACTER)
    if kind == "word":
        counting = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        counting.pre_tokenizer = pre_tokenizers.Split(_WORD, "isolated")
        least = 1 if _is_small(text) else 2
        trainer = trainers.WordLevelTrainer(
            vocab_size=max(size - 1, 1), min_frequency=least, show_progress=False, special_tokens=[]
        )
        counting.train_from_iterator(blocks(text), trainer)
        ids = counting.get_vocab()
        return _table(sorted(ids, key=lambda word: ids[word]), _WORD)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    pairs = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(blocks(text), pairs)
    return tokenizer


def _is_small(text: str | Iterable[str]) -> bool:
    """Whether it has few words."""
    return all(count < _SMALL for count in accumulate(piece.count(" ") for piece in _pieces(text)))


def _pieces(text: str | Iterable[str]) -> Iterable[str]:
    return [text] if isinstance(text, str) else text


def _table(tokens: list[str], pieces: Regex) -> Tokenizer:
    ids = {token: index for index, token in enumerate([UNKNOWN, *tokens])}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pieces, "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def load(path: Path) -> Tokenizer:
    """Read a tokenizer.json.

    Raises:
        BadInput: if it is missing or damaged.
    """
    with restoring(path, "a tokenizer"):
        return restored(read_bytes(path).decode())


def restored(kept: str) -> Tokenizer:
    """A tokenizer of its JSON.

    Raises:
        ValueError: if it is none that `fit` makes.
    """
    try:
        found = Tokenizer.from_str(kept)
    except Exception as error:  # the library raises nothing more special than Exception
        raise ValueError(error) from None
    lacking = [part for part in ("pre_tokenizer", "decoder") if getattr(found, part) is None]
    if lacking:
        raise ValueError(f"one without a {lacking[0]}")
    if not isinstance(found.model, models.BPE) and found.token_to_id(UNKNOWN) is None:
        raise ValueError(f"one without {UNKNOWN}")
    return found


def blocks(text: str | Iterable[str]) -> Iterator[str]:
    """The text in pieces that are tokenized as the whole is: a long text fits in memory and in all cores."""
    rest, sought = "", _BLOCK  # up to where no place to cut was found
    for piece in _pieces(text):
        rest += piece
        begin = 0
        while found := _CUT.search(rest, begin + sought):
            yield rest[begin : found.start()]
            begin, sought = found.start(), _BLOCK
        rest = rest[begin:]
        sought = max(len(rest), _BLOCK)
    if rest:
        yield rest


def encode(tokenizer: Tokenizer, text: str | Iterable[str]) -> NDArray[np.int32]:
    """The token ids of a text, whole or in pieces, shape (N); of a very long one, mapped from a file."""
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
    """What a tokenizer of characters does, in a hundredth of its time."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        ids = {ord(token): index for token, index in tokenizer.get_vocab().items() if len(token) == 1}
        self._ids = np.full(max(ids, default=0) + 2, tokenizer.token_to_id(UNKNOWN), np.int32)
        self._ids[list(ids)] = list(ids.values())

    def __call__(self, text: str) -> NDArray[np.int32]:
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
        found: NDArray[np.int32] = self._ids[np.minimum(codes, len(self._ids) - 1)]
        return found


def token_bytes(tokenizer: Tokenizer) -> NDArray[np.int64]:
    """How many bytes of UTF-8 each token stands for, shape (V); 0 for the unknown one."""
    size = tokenizer.get_vocab_size()
    spelled = [tokenizer.id_to_token(index) or "" for index in range(size)]
    if isinstance(tokenizer.model, models.BPE):  # byte-level: one character of the token's name for each byte
        return np.array([len(token) for token in spelled])
    return np.array([0 if token == UNKNOWN else len(token.encode()) for token in spelled])


def split_known(tokenizer: Tokenizer, text: str) -> tuple[str, list[str]]:
    """The text without what the tokenizer does not know, and what was left out, each once.

    A first word that is known only with a space before it is given that space.
    """
    if isinstance(tokenizer.model, models.BPE):
        return text, []
    pieces = [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)]
    if pieces and tokenizer.token_to_id(pieces[0]) is None and tokenizer.token_to_id(" " + pieces[0]) is not None:
        pieces[0] = " " + pieces[0]
    known = [piece for piece in pieces if tokenizer.token_to_id(piece) is not None]
    unknown = [piece for piece in pieces if tokenizer.token_to_id(piece) is None]
    return "".join(known), list(dict.fromkeys(unknown))
