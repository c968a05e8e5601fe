"""How good texts are, beside those that they should be."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

Texts = Sequence[str]


def exact_match(texts: Texts, targets: Texts) -> float:
    """The share of texts that are as they should be, to the character.

    >>> exact_match(["one", "two"], ["one", "too"])
    0.5
    """
    return sum(text == target for text, target in zip(texts, targets, strict=True)) / len(targets)


def bleu(texts: Texts, targets: Texts) -> float:
    """BLEU as sacrebleu counts it where nothing else is said, 0 to 100."""
    return float(_bleu().corpus_score(texts, [targets]).score)


def chrf(texts: Texts, targets: Texts) -> float:
    """ChrF as sacrebleu counts it where nothing else is said, 0 to 100."""
    return float(_chrf().corpus_score(texts, [targets]).score)


def _bleu() -> Any:
    from sacrebleu import BLEU

    return BLEU(force=True)  # which does not warn of texts that are in tokens


def _chrf() -> Any:
    from sacrebleu import CHRF

    return CHRF()


def _signature(name: str, metric: Callable[[], Any]) -> str:
    """What sacrebleu asks to be told beside its score."""
    found = metric()
    found.corpus_score(["one text"], [["one text"]])  # it counts references there
    return f"{name} {found.get_signature()}"


SCORES: dict[str, Callable[[Texts, Texts], float]] = {"exact_match": exact_match, "bleu": bleu, "chrf": chrf}
SIGNATURES = {"bleu": partial(_signature, "BLEU", _bleu), "chrf": partial(_signature, "chrF", _chrf)}
