"""How good labels of words are: shares that are right, and spans of BIO labels."""

import re
from collections.abc import Sequence

_PART = re.compile(r"[BIESLUM]-.+$")  # of a span: begins, in, ends; a single one, as some write it S, some U


def is_bio(labels: Sequence[str]) -> bool:
    """Whether labels mark spans.

    >>> is_bio(["B-PER", "I-PER", "O"]), is_bio(["NOUN", "VERB"])
    (True, False)
    """
    return "O" in labels and len(labels) > 1 and all(label == "O" or _PART.match(label) for label in labels)


def spans(labels: Sequence[str]) -> set[tuple[int, int, str]]:
    """What BIO, IOB or BIOES labels mark: where each span begins, where it has ended, of which kind it is.

    A label that goes on with what has not begun begins it, as the scorer of the CoNLL-2000 shared task reads it.

    >>> sorted(spans(["B-PER", "I-PER", "O", "I-ORG", "B-ORG"]))
    [(0, 2, 'PER'), (3, 4, 'ORG'), (4, 5, 'ORG')]
    """
    found, begin, before = set(), 0, "O"
    for i, label in enumerate([*labels, "O"]):
        goes_on = before != "O" and before[0] not in "ESLU" and label[0] in "IELM" and label[2:] == before[2:]
        if not goes_on:
            if before != "O":
                found.add((begin, i, before[2:]))
            begin = i
        before = label
    return found


def span_scores(said: Sequence[Sequence[str]], right: Sequence[Sequence[str]]) -> dict[str, float]:
    """F1, precision and recall of whole spans, over all sentences.

    >>> span_scores([["B-PER", "O", "B-ORG"]], [["B-PER", "I-PER", "B-ORG"]])
    {'span_f1': 0.5, 'precision': 0.5, 'recall': 0.5}
    """
    a, b = ({(n, *span) for n, sentence in enumerate(which) for span in spans(sentence)} for which in (said, right))
    both = len(a & b)
    return {
        "span_f1": 2 * both / max(len(a) + len(b), 1),
        "precision": both / max(len(a), 1),
        "recall": both / max(len(b), 1),
    }
