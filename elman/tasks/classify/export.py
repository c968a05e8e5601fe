"""The exported text classifier, whose inputs are padded arrays."""

import torch
from torch import Tensor, nn

from elman.data.words import GRAMS, WORD
from elman.tasks.classify.model import TextClassifier
from elman.tasks.classify.multi_label import THRESHOLD
from elman.tasks.export_part import BATCH, STEPS, Exportable, ExportPart, TensorSpec
from elman.tasks.task import Loaded

GRAM_AXIS = "grams"


class ExportedTextClassifier(nn.Module):
    """A text classifier that takes the n-grams of each word as an array, in place of a list of spellings."""

    def __init__(self, model: TextClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, words: Tensor, grams: Tensor, gram_counts: Tensor, lengths: Tensor, pairs: Tensor | None = None
    ) -> Tensor:
        """Map word numbers (T, B), n-gram numbers (T, B, G), their counts (T, B) and lengths (B,) to logits (B, K).

        The naive Bayes part also takes the numbers of word pairs (T, B).
        """
        is_gram = torch.arange(grams.shape[2], device=grams.device) < gram_counts.unsqueeze(2)
        vectors = nn.functional.embedding(grams, self.model.pieces.weight) * is_gram.unsqueeze(3)
        spellings = vectors.sum(2) / gram_counts.clamp(min=1).unsqueeze(2)
        logits = self.model.logits(self.model.words(words) + spellings, lengths)
        return self.model.with_evidence(logits, words, pairs, lengths)


def export(loaded: Loaded) -> Exportable:
    """Return the model, the labels, the vocabulary, and how texts become numbers."""
    model, codec = loaded.model, loaded.codec
    words = TensorSpec(
        name="words", shape=(STEPS, BATCH), dtype=torch.int64, high=len(codec.words) + 1, about="number of each word"
    )
    grams = TensorSpec(
        name="grams", shape=(STEPS, BATCH, GRAM_AXIS), dtype=torch.int64, high=codec.pieces, about="its n-grams, padded"
    )
    counts = TensorSpec(
        name="gram_counts", shape=(STEPS, BATCH), dtype=torch.int64, lengths_of=GRAM_AXIS, about="n-grams of each word"
    )
    lengths = TensorSpec(
        name="lengths", shape=(BATCH,), dtype=torch.int64, lengths_of=STEPS, about="words of each text"
    )
    pairs = TensorSpec(
        name="pairs",
        shape=(STEPS, BATCH),
        dtype=torch.int64,
        high=len(codec.pairs) + 1,
        about="number of the pair of each word and the one before it, which is empty for the first",
    )
    part = ExportPart(
        name="model",
        about="maps texts to the logits of the labels",
        module=ExportedTextClassifier(model),
        inputs=(words, grams, counts, lengths, *([pairs] if codec.pairs else [])),
        outputs=(TensorSpec(name="logits", shape=(BATCH, len(codec.labels)), about="of each label"),),
        not_layers="the mean and the maximum over all steps",
    )
    encoding = {
        "word_pattern": WORD.pattern,
        "words": codec.words,
        "pieces": codec.pieces,
        "gram_sizes": GRAMS,
        "gram_hash": "crc32 of the n-gram of <word> in UTF-8, modulo pieces",
    }
    if codec.pairs:
        encoding["pairs"] = codec.pairs
    several = {"multi_label": True, "threshold": THRESHOLD} if codec.multi_label else {}
    return Exportable([part], {"labels": codec.labels, **encoding, **several})
