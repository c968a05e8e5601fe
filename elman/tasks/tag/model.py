"""A bidirectional recurrent network that labels the words of a sentence."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, embedding

from elman.data.words import UNKNOWN
from elman.decoding.crf import LinearChain
from elman.tasks.codec import NO_LABEL
from elman.tasks.recurrent_layers import stack, title


class Sentences(NamedTuple):
    """A batch of sentences.

    Args:
        words: word numbers, (T, B).
        lengths: words of each sentence, (B,).
        spelling: the index of each word's spelling, (T, B).
        characters: character numbers of each different spelling, (C, N).
        spelled: characters of each spelling, (N,).
        labels: label numbers, (T, B).
    """

    words: Tensor
    lengths: Tensor
    spelling: Tensor
    characters: Tensor
    spelled: Tensor
    labels: Tensor


class Tagger(nn.Module):
    """Bidirectional recurrent layers over words, and a linear output for each word; with a CRF, over a sentence.

    A word is its embedding and the final states of a bidirectional recurrent layer over its characters.

    Args:
        vocabulary: V, known words; number 0 stands for all others.
        alphabet: known characters; number 0 stands for all others.
        labels: K, number of labels.
        cell: a name in `elman.cells.REGISTRY`.
        embed: size of the word embeddings.
        characters: size of the character embeddings, and hidden size of each direction over characters.
        hidden: H, hidden size of each direction over words.
        layers: number of recurrent layers over words.
        dropout: dropout probability, on the inputs of the word layers (with one mask for all words of a sentence),
            between recurrent layers and before the output.
        word_dropout: probability in training that a word is masked, but not its characters.
        bptt: truncated BPTT: words of the gradient; 0: all words.
        class_weights: weight of each label in the loss of training, (K,); none: all alike.
        crf: whether the outputs are the emissions of a conditional random field over the labels of a sentence.
        smoothing: label smoothing.
    """

    def __init__(
        self,
        vocabulary: int,
        alphabet: int,
        labels: int,
        cell: str = "gru",
        embed: int = 128,
        characters: int = 64,
        hidden: int = 128,
        layers: int = 1,
        dropout: float = 0.0,
        word_dropout: float = 0.0,
        bptt: int = 0,
        class_weights: Sequence[float] = (),
        crf: bool = False,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.smoothing = smoothing
        self.words, self.characters = nn.Embedding(vocabulary + 1, embed), nn.Embedding(alphabet + 1, characters)
        for table in (self.words, self.characters):
            nn.init.normal_(table.weight, std=0.1)
        self.speller = stack(characters, characters, 1, cell, dropout, bidirectional=True)
        width = embed + self.speller.output_size
        self.recurrent = stack(width, hidden, layers, cell, dropout, bptt, bidirectional=True)
        self.output = nn.Linear(self.recurrent.output_size, labels)
        self.crf = LinearChain(labels) if crf else None
        self.dropout, self.word_dropout, self.class_weights = dropout, word_dropout, tuple(class_weights)
        self.title = title(cell, layers, hidden, bidirectional=True) + (", CRF" if crf else "")

    def forward(self, batch: Sentences) -> Tensor:
        """Return the logits of every label for every word, (T, B, K); with a CRF, its emissions."""
        words = batch.words
        if self.training:
            words = words.masked_fill(torch.rand(words.shape, device=words.device) < self.word_dropout, UNKNOWN)
        # Not by indexing, whose backward pass adds in the order of the threads.
        spellings = embedding(batch.spelling, self.spellings(batch.characters, batch.spelled))
        return self.logits(words, spellings, batch.lengths)

    def spellings(self, characters: Tensor, lengths: Tensor) -> Tensor:
        """Map the character numbers of spellings (C, N), and their lengths (N,), to vectors (N, 2 * characters)."""
        _, states = self.speller(self.characters(characters), lengths=lengths)
        final: Tensor = states[0] if isinstance(states, tuple) else states
        return final.transpose(0, 1).flatten(1)

    def logits(self, words: Tensor, spellings: Tensor, lengths: Tensor) -> Tensor:
        """Map word numbers (T, B), the vectors of their spellings (T, B, S) and lengths (B,) to logits (T, B, K)."""
        x = torch.cat((self.words(words), spellings), 2)
        x = x * dropout(x.new_ones(x.shape[1:]), self.dropout, self.training)
        h, _ = self.recurrent(x, lengths=lengths)
        logits: Tensor = self.output(dropout(h, self.dropout, self.training))
        return logits

    def loss(self, batch: Sentences, state: Any = None) -> tuple[Tensor, int, Any]:
        """Return -log p(labels) in nats summed over a batch, the number of words, and no state."""
        logits, labels = self(batch), batch.labels
        if self.crf is None:
            weights = logits.new_tensor(self.class_weights) if self.class_weights and self.training else None
            smoothing = self.smoothing if self.training else 0.0
            flat = logits.flatten(0, 1), labels.flatten()
            nats = cross_entropy(*flat, weights, ignore_index=NO_LABEL, reduction="sum", label_smoothing=smoothing)
        else:
            nats = self.crf(logits, batch.lengths, labels).sum()
        return nats, int((labels != NO_LABEL).sum()), None

    def decode(self, batch: Sentences) -> tuple[Tensor, Tensor]:
        """Return the probability of every label for every word, (T, B, K), and the numbers of the labels, (T, B).

        With a CRF, these are the marginals, and the most probable sequence of labels. They are on the CPU, in float64.
        """
        logits = self(batch).cpu().double()
        if self.crf is not None:
            return self.crf.decode(logits, batch.lengths.cpu())
        return logits.softmax(2), logits.argmax(2)
