"""Image captioning: write texts about images that are read row by row."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from elman.data.examples import Example, is_files
from elman.data.images import image_example, images_with
from elman.data.tables import sources
from elman.data.validation import is_table, sides, text_of
from elman.tasks.caption import data as captions
from elman.tasks.caption.baselines import fit_baselines, load_baselines
from elman.tasks.caption.codec import CaptionCodec
from elman.tasks.caption.export import export
from elman.tasks.caption.model import Captioner
from elman.tasks.caption.options import CaptionOptions
from elman.tasks.plots import attention_plot
from elman.tasks.supervised import SupervisedTask
from elman.tasks.text_output import text_metrics, text_metrics_note

METRICS = ("exact_match", "chrf")


def read(data: Any, options: CaptionOptions) -> Iterable[Example]:
    """Read images with texts: files, a data frame, or arrays and texts; None: digits with their names in words."""
    if data is None:
        return captions.load_spelled_digits()
    if is_files(data) or is_table(data):
        return captions.read(sources(data), options)
    images, texts = sides("caption", data, "images (N, rows, columns)", "texts")
    return images_with("caption", images, texts, text_of, options.skip_bad)


TASK = SupervisedTask(
    name="caption",
    description="an image captioner",
    options=CaptionOptions,
    read=read,
    parse_input=lambda value, options: image_example(value),
    codec=CaptionCodec,
    model=Captioner,
    unit="tokens",
    examples="images",
    loss="nats_per_token",
    score="exact_match",
    metrics=partial(text_metrics, names=METRICS),
    metrics_note=partial(text_metrics_note, METRICS),
    fit_baselines=fit_baselines,
    load_baselines=load_baselines,
    export=export,
    json_inputs=list[list[list[float]]],  # images, rows
    plots=(
        attention_plot(
            "The attention of each output token over the rows of an image.", lambda codec, source: source.numpy()
        ),
    ),
    input_name="image",
    default_data="scikit-learn's digits, spelled out",
    several_targets=True,
    next_step="to use it: elman predict {run} PICTURE",
)
