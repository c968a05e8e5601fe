"""The exported image classifier."""

from torch import Tensor, nn

from elman.data.images import RGB
from elman.tasks.export_part import BATCH, Exportable, ExportPart, TensorSpec
from elman.tasks.image.model import ImageClassifier
from elman.tasks.task import Loaded


class ExportedImageClassifier(nn.Module):
    """An image classifier that takes images as (B, rows, columns), or in colour as (B, rows, columns, 3)."""

    def __init__(self, model: ImageClassifier, by_columns: bool) -> None:
        super().__init__()
        self.model, self.by_columns = model, by_columns

    def forward(self, images: Tensor) -> Tensor:
        """Map images to logits (B, K)."""
        channels = images.unsqueeze(3) if images.dim() == 3 else images
        steps = channels.permute(2, 0, 3, 1) if self.by_columns else channels.permute(1, 0, 3, 2)
        logits: Tensor = self.model(steps.flatten(2))
        return logits


def export(loaded: Loaded) -> Exportable:
    """Return the model, the labels and the shape of images."""
    model, codec = loaded.model, loaded.codec
    shape: tuple[int | str, ...] = (BATCH, codec.rows, codec.columns)
    images = TensorSpec(name="images", shape=shape, about="grey, black 0, white 1")
    if codec.channels == RGB:
        images = TensorSpec(name="images", shape=(*shape, RGB), about="red, green and blue, from 0 to 1")
    part = ExportPart(
        name="model",
        about="maps images to the logits of the labels",
        module=ExportedImageClassifier(model, codec.read == "columns"),
        inputs=(images,),
        outputs=(TensorSpec(name="logits", shape=(BATCH, len(codec.labels)), about="of each label"),),
        not_layers=f"{'convolutions, the mean and the maximum' if codec.filters else 'the mean'} over all steps",
    )
    names = ("labels", "rows", "columns", "channels", "white")
    return Exportable([part], {name: getattr(codec, name) for name in names})
