"""Scores of labels: spans of BIO labels."""

import re
from collections.abc import Sequence

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
    predicted_spans, expected_spans = (
        {(n, *span) for n, sentence in enumerate(sentences) for span in spans(sentence)}
        for sentences in (predicted, expected)
    )
    correct = len(predicted_spans & expected_spans)
    return {
        "span_f1": 2 * correct / max(len(predicted_spans) + len(expected_spans), 1),
        "precision": correct / max(len(predicted_spans), 1),
        "recall": correct / max(len(expected_spans), 1),
    }
