"""Naive Bayes evidence of words and of word pairs, beside a recurrent network."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, one_hot

from elman.data.words import UNKNOWN

PSEUDO_TEXTS = 2.0  # with the frequencies of all labels, which each feature is counted in, too
MIN_SHARE = 1e-6
CHUNK = 1000  # texts that are counted at a time


class NaiveBayes(nn.Module):
    """The evidence of the words of a text, and of its pairs of adjacent words, for each label.

    The evidence of a feature f for a label k is the log odds of the label among the texts of the training part with it,

        r_k(f) = log((n_k(f) + 2 p_k) / (n(f) - n_k(f) + 2 (1 - p_k))) - log(p_k / (1 - p_k))

    if n_k(f) of n(f) texts with the feature have the label, and the share of all features that are in texts with the
    label is p_k. That of a text is the sum over its words, and over its pairs, each divided by the square root of the
    number of words and multiplied by a learned scale. In training, a text is left out of the counts, so that the scales
    are those for new texts. S. Wang and C. Manning, "Baselines and bigrams", ACL 2012.

    Args:
        vocabulary: V, known words; number 0 stands for all others, which have no counts.
        pairs: P, known pairs, likewise.
        labels: K, number of labels.
        multi_label: whether a text may have several labels.

    Attributes:
        word_counts, pair_counts: number of texts of each label that have a feature, and of all texts that have it,
            (V + 1, K + 1) and (P + 1, K + 1).

    >>> bayes = NaiveBayes(vocabulary=2, pairs=10, labels=2)
    >>> bayes.count([([1], [3], 0), ([1, 2], [3, 4], 0), ([2], [5], 1)])
    >>> evidence = bayes(torch.tensor([[1]]), torch.tensor([[3]]), torch.tensor([1]))
    >>> evidence.argmax()                                                    # texts of label 0 alone have the word 1
    tensor(0)
    """

    word_counts: Tensor
    pair_counts: Tensor

    def __init__(self, vocabulary: int, pairs: int, labels: int, multi_label: bool = False) -> None:
        super().__init__()
        self.multi_label = multi_label
        self.register_buffer("word_counts", torch.zeros(vocabulary + 1, labels + 1))
        self.register_buffer("pair_counts", torch.zeros(pairs + 1, labels + 1))
        self.scales, self.bias = nn.Parameter(torch.full((2,), 0.5)), nn.Parameter(torch.zeros(labels))

    def forward(self, words: Tensor, pairs: Tensor, lengths: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return the evidence for each label, (B, K).

        Args:
            words: word numbers, (T, B).
            pairs: numbers of the pairs of each word and the one before, (T, B).
            lengths: words of each text, (B,).
            labels: those of texts that are counted, (B,) or (B, K), which are left out of the counts; None: new texts.
        """
        left_out = None if labels is None else self._columns(labels)
        is_word = (torch.arange(words.shape[0], device=words.device)[:, None] < lengths).unsqueeze(2)
        of_words, of_pairs = (
            (_log_odds(counts, numbers, left_out) * is_word).sum(0)
            for counts, numbers in ((self.word_counts, words), (self.pair_counts, pairs))
        )
        sums = of_words * self.scales[0] + of_pairs * self.scales[1]
        return sums / lengths.sqrt().unsqueeze(1) + self.bias

    def count(self, texts: Iterable[tuple[Any, Any, Any]]) -> None:
        """Count the features of texts: numbers of words and pairs, and the label number or which labels there are."""
        remaining = iter(texts)
        while chunk := list(islice(remaining, CHUNK)):
            words, pairs, labels = zip(*chunk, strict=True)
            rows = self._columns(torch.as_tensor(np.array(labels)))
            for counts, numbers in ((self.word_counts, words), (self.pair_counts, pairs)):
                distinct = [np.setdiff1d(text, [UNKNOWN]) for text in numbers]
                repeats = torch.tensor([len(text) for text in distinct])
                index = torch.from_numpy(np.concatenate(distinct).astype(np.int64))
                counts.index_add_(0, index, rows.repeat_interleave(repeats, 0))

    def _columns(self, labels: Tensor) -> Tensor:
        """Return which labels texts have, and a column of ones, (B, K + 1)."""
        has = labels.float() if self.multi_label else one_hot(labels, len(self.bias)).float()
        return torch.cat((has, has.new_ones(len(has), 1)), 1)


def _log_odds(counts: Tensor, numbers: Tensor, left_out: Tensor | None) -> Tensor:
    """Return the evidence of features (T, B) for each label, (T, B, K)."""
    total, rows = counts.sum(0), embedding(numbers, counts)
    share = (total[:-1] / total[-1].clamp(min=1)).clamp(MIN_SHARE, 1 - MIN_SHARE)
    if left_out is not None:
        rows = rows - left_out  # below 0 for padding, and for a streamed text that is not in the sample
    with_label = rows[..., :-1].clamp(min=0)
    without = (rows[..., -1:] - with_label).clamp(min=0)
    odds = (with_label + PSEUDO_TEXTS * share) / (without + PSEUDO_TEXTS * (1 - share))
    return odds.log() - (share / (1 - share)).log()
