"""Kneser-Ney against KenLM: the same counts, discounts and probabilities, but for what is a sentence.

The numbers were made with KenLM 4cb443e, `lmplz -o ORDER --arpa model.arpa < corpus.txt`, tokens written as words like
"w7", and queried with `kenlm.Model("model.arpa").full_scores(" ".join(words))` of kenlm 0.3.0: the base-10 logarithms
of the probabilities of the words and of the end of the sentence.

KenLM knows sentences: "<s>" is a context that is never predicted, and "</s>" is predicted. Ours knows one text, in
which every token is predicted. So the text has these as tokens, and then three things differ:

- "<s>" at the beginning of the text is preceded by the text's beginning: a("<s>") is one more than in KenLM, which
  changes the logarithms by up to 0.006 here. `_without_beginning` takes it away, and all are equal.
- p_0 = 1 / V: KenLM's V counts "<unk>" and not "<s>".
- Where a discount cannot be estimated, ours is j / 2 in its place; KenLM stops, or with `--discount_fallback` replaces
  all three of the order. It takes D_3 = 3 where no n-gram has a = 4; ours takes 3 / 2. The corpora here need neither.
"""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from elman.baselines.kneser_ney import NGram

PRECISION = 1e-6  # KenLM writes and reads single precision

# fmt: off
BIGRAM = [
    -2.024316, -1.874976, -2.649575, -1.943258, -1.636127, -1.81739, -1.515134, -1.713228, -1.758983, -2.081164,
    -1.874976, -2.043357, -1.968633, -1.849145, -1.768967, -1.97896, -2.929355,
]
TRIGRAM = [
    -1.986414, -1.837075, -2.594553, -1.905357, -1.623378, -0.85514, -0.820656, -0.840703, -1.772696, -2.199011,
    -1.895916, -1.988335, -1.930731, -1.783847, -1.713134, -1.911038, -2.866285,
]
SENTENCES = [
    -1.745426, -1.954639, -2.69034, -1.954639, -1.667209, -3.106815, -2.026468, -1.525646, -1.758798, -1.859413,
    -2.075931, -1.358081,
]
# fmt: on


def _stream(length: int, seed: int) -> list[int]:
    """A text of tokens that follow from the two before them, or are drawn, with some rarer than others."""
    tokens, x = [0, 0], seed
    for _ in range(length - 2):
        x = (1103515245 * x + 12345) % 2**31  # a linear congruential generator: the same for ever
        u = x >> 16
        tokens.append((7 * tokens[-1] + tokens[-2]) % 40 if u % 3 else 300 * u * u >> 30)
    return tokens


def _texts() -> tuple[list[int], list[int], int]:
    """A corpus of 1,500 tokens, another text of 16, and the number of types, which are numbered from 0."""
    corpus, text = _stream(1500, seed=1), _stream(1600, seed=7)[-16:]
    number = {token: i for i, token in enumerate(sorted(set(corpus)))}
    return [number[token] for token in corpus], [number[token] for token in text], len(number)


def _without_beginning(model: NGram, token: int) -> NGram:
    """The model without the beginning of the text among what precedes a token."""
    first, *others = model.continuations
    fewer = first - (model.keys[0] == token)
    return replace(model, continuations=(fewer, *others))


@pytest.mark.parametrize(("order", "frozen"), [(2, BIGRAM), (3, TRIGRAM)])
def test_one_sentence(order: int, frozen: list[float]) -> None:
    corpus, text, types = _texts()
    begin, end = types, types + 1  # begin is KenLM's "<unk>" too, of which there is none
    fitted = NGram.fit(np.array([begin, *corpus, end]), types + 2, order)
    ours = fitted.nats(np.array([begin, *text, end])) / -np.log(10)
    assert_allclose(ours, frozen, atol=1e-3, rtol=0)
    assert abs(ours - frozen).max() > 1e-4  # the difference that this file begins with is there
    model = _without_beginning(fitted, begin)
    assert_allclose(model.nats(np.array([begin, *text, end])) / -np.log(10), frozen, atol=PRECISION, rtol=0)


def test_many_sentences_and_unknown_words() -> None:
    """A bigram model, whose contexts are never of two sentences: one token is the boundary of sentences."""
    corpus, text, types = _texts()
    boundary, unknown = types, types + 1
    sentences = [corpus[begin : begin + 9] for begin in range(0, len(corpus), 9)]
    ids = [boundary, *(token for sentence in sentences for token in [*sentence, boundary])]
    model = _without_beginning(NGram.fit(np.array(ids), types + 2, 2), boundary)
    ours = model.nats(np.array([boundary, *text[:5], unknown, *text[5:10], boundary])) / -np.log(10)
    assert_allclose(ours, SENTENCES, atol=PRECISION, rtol=0)
