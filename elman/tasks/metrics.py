"""Metrics of labels and of texts."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from elman.extras import needs

Texts = Sequence[str]


def f1_scores(correct: int, predicted: int, expected: int) -> dict[str, float]:
    """Return F1, precision and recall, 0 where nothing is predicted or expected.

    Args:
        correct: how many are both predicted and expected.
        predicted: how many are predicted.
        expected: how many are expected.

    >>> f1_scores(1, 1, 3)
    {'f1': 0.5, 'precision': 1.0, 'recall': 0.3333333333333333}
    """
    return {
        "f1": 2 * correct / max(predicted + expected, 1),
        "precision": correct / max(predicted, 1),
        "recall": correct / max(expected, 1),
    }


def exact_match(texts: Texts, targets: Texts) -> float:
    """Return the share of texts that equal their targets.

    >>> exact_match(["one", "two"], ["one", "too"])
    0.5
    """
    return sum(text == target for text, target in zip(texts, targets, strict=True)) / len(targets)


def bleu(texts: Texts, targets: Texts) -> float:
    """Return BLEU with sacrebleu's defaults, from 0 to 100."""
    return float(_bleu().corpus_score(texts, [targets]).score)


def chrf(texts: Texts, targets: Texts) -> float:
    """Return chrF with sacrebleu's defaults, from 0 to 100."""
    return float(_chrf().corpus_score(texts, [targets]).score)


def _bleu() -> Any:
    with needs("text", "BLEU"):
        from sacrebleu import BLEU

    return BLEU(force=True)  # do not warn about tokenized texts


def _chrf() -> Any:
    with needs("text", "chrF"):
        from sacrebleu import CHRF

    return CHRF()


def _signature(name: str, metric: Callable[[], Any]) -> str:
    """Return the signature that sacrebleu asks to report with a score."""
    scorer = metric()
    scorer.corpus_score(["one text"], [["one text"]])  # the signature needs the number of references
    return f"{name} {scorer.get_signature()}"


METRICS: dict[str, Callable[[Texts, Texts], float]] = {"exact_match": exact_match, "bleu": bleu, "chrf": chrf}
SIGNATURES = {"bleu": partial(_signature, "BLEU", _bleu), "chrf": partial(_signature, "chrF", _chrf)}
