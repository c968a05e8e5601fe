"""The exported parts of models that read with an encoder and write with an attention decoder."""

from typing import Any

import torch
from torch import Tensor, nn

from elman.decoding.attention_decoder import Memory, Writer
from elman.tasks.export_part import BATCH, ExportPart, TensorSpec, as_state, as_tensors, states_of
from elman.tasks.text_output import TextOutputCodec, Vocabulary

SOURCE = "source_steps"  # the axis of the memory
BEGIN = -1  # the token before the first


class ExportedEncoder(nn.Module):
    """The encoder of a writer."""

    def __init__(self, model: Writer) -> None:
        super().__init__()
        self.model = model

    def forward(self, source: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Map sources (S, B, ...) and their lengths (B,) to the memory (S, B, M); None: all have S steps."""
        return self.model.encode(source, lengths)


class ExportedDecoderStep(nn.Module):
    """One step of the decoder of a writer."""

    def __init__(self, model: Writer) -> None:
        super().__init__()
        self.decoder = model.decoder

    def forward(self, token: Tensor, memory: Tensor, lengths: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Map the last tokens (B,), the memory and the state to logits (B, V), attention (B, S) and the next state."""
        rows = Memory(memory, lengths)
        begins = (token == BEGIN).unsqueeze(1)
        inputs = torch.where(begins, self.decoder.start(rows), self.decoder.embed(token.clamp(min=0).unsqueeze(0)))
        u, attention, final = self.decoder(inputs, rows, as_state(state))
        return self.decoder.logits(u[0]), attention[:, 0], *as_tensors(final)


def writer_parts(model: Writer, codec: TextOutputCodec, source: TensorSpec, ragged: bool) -> list[ExportPart]:
    """Return the encoder, and one step of the decoder.

    Args:
        model: the model.
        codec: its codec.
        source: the specification of the input of the encoder.
        ragged: whether the sources of a batch may differ in length.
    """
    vocabulary, M = len(codec.target), model.decoder.query.out_features
    lengths = TensorSpec(
        name="lengths", shape=(BATCH,), dtype=torch.int64, lengths_of=SOURCE, about="steps of each source"
    )
    memory = TensorSpec(name="memory", shape=(SOURCE, BATCH, M), about="output of the encoder")
    initial, final = states_of(model.decoder.recurrent)
    token = TensorSpec(
        name="token",
        shape=(BATCH,),
        dtype=torch.int64,
        low=BEGIN,
        high=vocabulary,
        about=f"last token of each text; {BEGIN} to begin",
    )
    logits = TensorSpec(name="logits", shape=(BATCH, vocabulary), about="of the next token")
    attention = TensorSpec(name="attention", shape=(BATCH, SOURCE), about="weight of each step of the source")
    encoder = ExportPart(
        name="encoder",
        about="maps sources to the memory that the decoder reads",
        module=ExportedEncoder(model),
        inputs=(source, lengths) if ragged else (source,),
        outputs=(memory,),
        not_layers="lengths of sources",
    )
    step = ExportPart(
        name="decoder_step",
        about="maps the last token to the logits of the next",
        module=ExportedDecoderStep(model),
        inputs=(token, memory, lengths, *initial),
        outputs=(logits, attention, *final),
        not_layers="attention",
    )
    return [encoder, step]


def writer_settings(codec: TextOutputCodec) -> dict[str, Any]:
    """Return what a program must know to decode: tokens with a meaning, the longest output, the beam width."""
    target = {**vocabulary_settings(codec.target), "begin": BEGIN, "never": codec.target.never.tolist()}
    return {"target": target, "longest": codec.longest, "beam": codec.beam}


def writer_files(codec: TextOutputCodec) -> dict[str, str]:
    """Return the tokenizer of the output."""
    return {"tokenizer.json": codec.target.tokenizer.to_str()}


def vocabulary_settings(vocabulary: Vocabulary) -> dict[str, Any]:
    """Return what a program must know of a vocabulary beside its tokenizer."""
    return {"vocabulary": len(vocabulary), "end": vocabulary.end, "before": vocabulary.before}
