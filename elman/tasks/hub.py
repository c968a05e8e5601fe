"""Push runs to and pull runs from the Hugging Face Hub."""

import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined

from elman.errors import BadInput
from elman.extras import needs
from elman.io.files import write_whole
from elman.io.run_folder import Run
from elman.report import facts
from elman.report.tables import score_rows, scored_on

if TYPE_CHECKING:
    from huggingface_hub import HfApi

FILES = ["*.json", "*.safetensors", "*.csv", "*.png"]  # to push and pull; none of these formats can run code
LOCAL = ("split.csv", "*.html", ".*")  # not pushed: they name files of this machine, or are useful only there
PIPELINES = {
    "text": "text-generation",
    "image": "image-classification",
    "classify": "text-classification",
    "tag": "token-classification",
    "forecast": "time-series-forecasting",
    "translate": "translation",
    "caption": "image-to-text",
    "transcribe": "automatic-speech-recognition",
}  # pipeline tags of the Hub
CALLS = {
    "text": ("generate(length=200)",),
    "music": ("generate()", 'predict(["piece.mid"])'),
    "image": ('predict(["picture.png"])', 'predict_proba(["picture.png"])'),
    "classify": ('predict(["a text"])', 'predict_proba(["a text"])'),
    "tag": ('predict(["a sentence"])', 'predict_proba(["a sentence"])'),
    "forecast": ("predict()  # what follows the training data",),
    "translate": ('predict(["a sentence"])',),
    "caption": ('predict(["picture.png"])',),
    "transcribe": ('predict(["recording.wav"])',),
    "series": ('predict(["series.ts"])',),
}


def push(
    folder: Path,
    repo_id: str,
    title: str,
    private: bool | None,
    token: str | None,
    revision: str | None,
    commit_message: str,
    license: str | None,
) -> str:
    """Push a saved run to a repository, which is created if there is none.

    Args:
        folder: from `Trained.save`; it is changed.
        repo_id: "user/name".
        title: of the model.
        private: whether a new repository is private; None: the default of the account.
        token: of the Hub; None: that of `hf auth login`.
        revision: the branch; None: "main".
        commit_message: of the commit.
        license: of the model, for its card.

    Returns:
        The address of the repository.
    """
    api = _api("push_to_hub", token)
    for pattern in LOCAL:
        for path in folder.glob(pattern):
            path.unlink()
    config = _without_folders(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    run = Run(folder, config)
    run.update()
    write_whole(folder / "README.md", model_card(run, repo_id, title, license))
    url = api.create_repo(repo_id, private=private, exist_ok=True)
    # Delete the files of a run that was pushed before.
    api.upload_folder(
        repo_id=repo_id,
        folder_path=folder,
        revision=revision,
        commit_message=commit_message,
        delete_patterns=FILES,
    )
    return str(url)


def pull(repo_id: str, revision: str | None, token: str | None) -> Path:
    """Return the folder of a run: a local folder of this name, or a download from the Hub."""
    if Path(repo_id).is_dir():
        return Path(repo_id)
    api = _api("from_hub", token)
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(str(api.snapshot_download(repo_id, revision=revision, allow_patterns=FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        reason = str(error).splitlines()[0]
        raise BadInput(f"from_hub: {repo_id}: expected a repository or a run folder, found none: {reason}") from None


def model_card(run: Run, repo_id: str, title: str, license: str | None = None) -> str:
    """Return the model card of a run: data, scores of model and baselines, usage, configuration.

    Args:
        run: the run, with file names without folders.
        repo_id: the repository.
        title: the title of the model.
        license: the license of the model.
    """
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701 - Markdown
    environment.filters |= {"cell": _cell}
    task, scores = run.config["task"], facts.scores(run)
    settings = facts.settings(run)
    options = {name: value for name, value in settings["options"].items() if name not in settings["model"]}
    template = (resources.files("elman.tasks") / "model_card.md").read_text(encoding="utf-8")
    return environment.from_string(template).render(
        title=title,
        task=task,
        version=run.config["elman"],
        data=run.config["data"].get("name", "data in Python"),
        tags=["elman", "recurrent-neural-network", str(run.config["model"]["cell"])],
        pipeline_tag=PIPELINES.get(task),
        license=license,
        scores=score_rows(scores),
        note=scored_on(scores),
        columns=list(next(iter(scores.values()), ())),
        repo_id=repo_id,
        calls=CALLS.get(task, ("predict(inputs)",)),
        settings=settings | {"options": options},
    )


def _api(method: str, token: str | None) -> "HfApi":
    with needs("hub", method):
        from huggingface_hub import HfApi
    return HfApi(token=token)


def _without_folders(config: dict[str, Any]) -> dict[str, Any]:
    """Remove folders from file names: they may contain names of people."""
    data, options = dict(config["data"]), dict(config["options"])
    if data.get("files"):
        data["files"] = [Path(file).name for file in data["files"]]
        data["name"] = ", ".join(data["files"])
    for part in ("validation", "test"):
        if options.get(part):
            options[part] = [Path(file).name for file in options[part]]
    if options.get("vectors"):
        options["vectors"] = Path(options["vectors"]).name
    return config | {"data": data, "options": options}


def _cell(value: Any) -> str:
    """Escape a value for a cell of a Markdown table."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("<", "&lt;")
