"""The exported translator: the encoder, and one step of the decoder."""

import torch

from elman.tasks.export_part import BATCH, Exportable, TensorSpec
from elman.tasks.export_writer import SOURCE, vocabulary_settings, writer_files, writer_parts, writer_settings
from elman.tasks.task import Loaded


def export(loaded: Loaded) -> Exportable:
    """Return encoder and decoder, and the tokenizers of both languages."""
    model, codec = loaded.model, loaded.codec
    source = TensorSpec(
        name="source",
        shape=(SOURCE, BATCH),
        dtype=torch.int64,
        high=len(codec.read),
        about="tokens of each source, with a final end token, padded",
    )
    settings = {"source": vocabulary_settings(codec.read), **writer_settings(codec)}
    files = {"source_tokenizer.json": codec.read.tokenizer.to_str(), **writer_files(codec)}
    return Exportable(writer_parts(model, codec, source, ragged=True), settings, files)
