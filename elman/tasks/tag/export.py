"""The exported tagger, whose inputs are padded arrays."""

import torch
from torch import Tensor, nn

from elman.data.words import WORD
from elman.tasks.export_part import BATCH, STEPS, Exportable, ExportPart, TensorSpec
from elman.tasks.tag.model import Tagger
from elman.tasks.task import Loaded

SPELLING = "characters"  # the axis of the characters of a word


class ExportedTagger(nn.Module):
    """A tagger that takes the characters of each word as an array, in place of a list of different spellings."""

    def __init__(self, model: Tagger) -> None:
        super().__init__()
        self.model = model

    def forward(self, words: Tensor, characters: Tensor, character_counts: Tensor, lengths: Tensor) -> Tensor:
        """Map word numbers (T, B), their characters (T, B, C), counts (T, B) and lengths (B,) to logits (T, B, K)."""
        spellings = self.model.spellings(characters.flatten(0, 1).T, character_counts.flatten())
        return self.model.logits(words, spellings.unflatten(0, character_counts.shape), lengths)


def export(loaded: Loaded) -> Exportable:
    """Return the model, the labels, the vocabularies of words and characters, and the scores of a CRF."""
    model, codec = loaded.model, loaded.codec
    words = TensorSpec(
        name="words", shape=(STEPS, BATCH), dtype=torch.int64, high=len(codec.words) + 1, about="number of each word"
    )
    characters = TensorSpec(
        name="characters",
        shape=(STEPS, BATCH, SPELLING),
        dtype=torch.int64,
        high=len(codec.characters) + 1,
        about="its characters, padded",
    )
    counts = TensorSpec(
        name="character_counts",
        shape=(STEPS, BATCH),
        dtype=torch.int64,
        lengths_of=SPELLING,
        about="characters of each word, at least 1; 1 for padding, too",
    )
    lengths = TensorSpec(
        name="lengths", shape=(BATCH,), dtype=torch.int64, lengths_of=STEPS, about="words of each sentence"
    )
    part = ExportPart(
        name="model",
        about="maps sentences to the logits of the labels of each word; with a CRF, its emissions",
        module=ExportedTagger(model),
        inputs=(words, characters, counts, lengths),
        outputs=(TensorSpec(name="logits", shape=(STEPS, BATCH, len(codec.labels)), about="of each label"),),
        not_layers="recurrent layers over the characters of each word",
    )
    vocabularies = {"words": codec.words, "characters": codec.characters}
    crf = {} if model.crf is None else {"crf": {name: p.tolist() for name, p in model.crf.named_parameters()}}
    return Exportable([part], {"labels": codec.labels, "word_pattern": WORD.pattern, **vocabularies, **crf})
