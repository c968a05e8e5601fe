"""The exported image classifier."""

from torch import Tensor, nn

from elman.tasks.export_part import BATCH, Exportable, ExportPart, TensorSpec
from elman.tasks.image.model import ImageClassifier
from elman.tasks.task import Loaded


class ExportedImageClassifier(nn.Module):
    """An image classifier that takes images as (B, rows, columns)."""

    def __init__(self, model: ImageClassifier, by_columns: bool) -> None:
        super().__init__()
        self.model, self.by_columns = model, by_columns

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, rows, columns) to logits (B, K)."""
        logits: Tensor = self.model(images.permute(2, 0, 1) if self.by_columns else images.transpose(0, 1))
        return logits


def export(loaded: Loaded) -> Exportable:
    """Return the model, the labels and the shape of images."""
    model, codec = loaded.model, loaded.codec
    part = ExportPart(
        name="model",
        about="maps images to the logits of the labels",
        module=ExportedImageClassifier(model, codec.read == "columns"),
        inputs=(TensorSpec(name="images", shape=(BATCH, codec.rows, codec.columns), about="grey, black 0, white 1"),),
        outputs=(TensorSpec(name="logits", shape=(BATCH, len(codec.labels)), about="of each label"),),
        not_layers="the mean over all steps",
    )
    shape = {"rows": codec.rows, "columns": codec.columns, "white": codec.white}
    return Exportable([part], {"labels": codec.labels, **shape})
