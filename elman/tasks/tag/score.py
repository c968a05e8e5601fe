"""Scores of labels: spans of BIO labels."""

import re
from collections import Counter
from collections.abc import Sequence

from elman.tasks.metrics import f1_scores

_PART = re.compile(r"[BIESLUM]-.+$")  # of a span: begin, inside, end, last, middle; a single word is S or U


def is_bio(labels: Sequence[str]) -> bool:
    """Return whether labels mark spans.

    >>> is_bio(["B-PER", "I-PER", "O"]), is_bio(["NOUN", "VERB"])
    (True, False)
    """
    return "O" in labels and len(labels) > 1 and all(label == "O" or _PART.match(label) for label in labels)


def spans(labels: Sequence[str]) -> set[tuple[int, int, str]]:
    """Return the spans that BIO, IOB or BIOES labels mark, as (begin, end, type).

    A label that continues a span that has not begun begins one, as in the scorer of the CoNLL-2000 shared task.

    >>> sorted(spans(["B-PER", "I-PER", "O", "I-ORG", "B-ORG"]))
    [(0, 2, 'PER'), (3, 4, 'ORG'), (4, 5, 'ORG')]
    """
    spans, begin, previous = set(), 0, "O"
    for i, label in enumerate([*labels, "O"]):
        continues = previous != "O" and previous[0] not in "ESLU" and label[0] in "IELM" and label[2:] == previous[2:]
        if not continues:
            if previous != "O":
                spans.add((begin, i, previous[2:]))
            begin = i
        previous = label
    return spans


def span_scores(predicted: Sequence[Sequence[str]], expected: Sequence[Sequence[str]]) -> dict[str, float]:
    """Return F1, precision and recall of whole spans, over all sentences.

    >>> span_scores([["B-PER", "O", "B-ORG"]], [["B-PER", "I-PER", "B-ORG"]])
    {'span_f1': 0.5, 'precision': 0.5, 'recall': 0.5}
    """
    counts = _counted(predicted, expected)
    scores = f1_scores(*(count.total() for count in counts))
    return {"span_f1": scores.pop("f1")} | scores


def span_scores_by_type(
    predicted: Sequence[Sequence[str]], expected: Sequence[Sequence[str]]
) -> dict[str, dict[str, float]]:
    """Return F1, precision, recall and the number of expected spans of each type, by type.

    >>> span_scores_by_type([["B-PER", "O", "B-ORG"]], [["B-PER", "I-PER", "B-ORG"]])["ORG"]
    {'f1': 1.0, 'precision': 1.0, 'recall': 1.0, 'spans': 1}
    """
    counts = _counted(predicted, expected)
    return {
        kind: f1_scores(*(count[kind] for count in counts)) | {"spans": counts[2][kind]}
        for kind in sorted(counts[1] | counts[2])
    }


def _counted(predicted: Sequence[Sequence[str]], expected: Sequence[Sequence[str]]) -> tuple[Counter[str], ...]:
    """Return how many spans of each type are in both, are predicted, and are expected."""
    correct, of_predicted, of_expected = Counter[str](), Counter[str](), Counter[str]()
    for labels, right in zip(predicted, expected, strict=True):
        both = spans(labels), spans(right)
        for counter, chosen in zip((correct, of_predicted, of_expected), (both[0] & both[1], *both), strict=True):
            counter.update(kind for _, _, kind in chosen)
    return correct, of_predicted, of_expected
