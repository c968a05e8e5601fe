"""A network that reads one language and writes another."""

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from elman.decoding.attention_decoder import Decoder, Writer
from elman.tasks.recurrent_layers import stack, title


class Translator(Writer):
    """Recurrent layers that read the tokens of a sentence from both ends, and a decoder that attends to them.

    Args:
        source: how many tokens of the language that is read there are.
        vocabulary: of the one that is written, the end among them.
        cell: a name in `elman.cells.REGISTRY`.
        hidden: H, of every recurrent layer and direction, and of the decoder's.
        layers: how many of them, on each side.
        embed: width of a token's embedding.
        dropout: probability, on what layers hand up, on embeddings and before the output, in training.
        bptt: steps that the gradient goes back; 0: all the way.
        smoothing: what share of a target's probability goes to all tokens alike, in training.

    >>> model = Translator(10, 12, "gru", 16)
    >>> model.encode(torch.tensor([[3, 4], [5, 0]]), torch.tensor([2, 1])).shape    # 2 steps of B=2, 2 x H wide
    torch.Size([2, 2, 32])
    """

    def __init__(
        self,
        source: int,
        vocabulary: int,
        cell: str = "gru",
        hidden: int = 256,
        layers: int = 1,
        embed: int = 256,
        dropout: float = 0.0,
        bptt: int = 0,
        smoothing: float = 0.0,
    ) -> None:
        encoder = stack(embed, hidden, layers, cell, dropout, bptt, bidirectional=True)
        recurrent = stack(embed, hidden, layers, cell, dropout, bptt)
        decoder = Decoder(vocabulary, encoder.output_size, embed, recurrent, dropout)
        super().__init__(decoder, smoothing, f"{title(cell, layers, hidden)}, attention")
        self.embedding = nn.Parameter(torch.randn(source, embed) * embed**-0.5)
        self.encoder = encoder

    def encode(self, source: Tensor, lengths: Tensor) -> Tensor:
        """As there, of tokens (S, B)."""
        outputs: Tensor = self.encoder(self.decoder.dropout(embedding(source, self.embedding)), lengths=lengths)[0]
        return outputs
