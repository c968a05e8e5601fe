"""The exported captioner: the encoder, and one step of the decoder."""

from elman.tasks.export_part import BATCH, Exportable, TensorSpec
from elman.tasks.export_writer import SOURCE, writer_files, writer_parts, writer_settings
from elman.tasks.task import Loaded


def export(loaded: Loaded) -> Exportable:
    """Return encoder and decoder, the shape of images, and the tokenizer."""
    model, codec = loaded.model, loaded.codec
    source = TensorSpec(
        name="source", shape=(SOURCE, BATCH, codec.columns), about="rows of each image: grey, black 0, white 1"
    )
    shape = {"rows": codec.rows, "columns": codec.columns}
    parts = writer_parts(model, codec, source, ragged=False)
    return Exportable(parts, {**shape, **writer_settings(codec)}, writer_files(codec))
