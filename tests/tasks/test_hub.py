"""Runs on the Hugging Face Hub. There is no network in tests: HfApi copies folders instead."""

import json
import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

from elman import tasks
from elman.errors import BadInput, MissingPackage
from elman.tasks import Trained, image
from elman.tasks.hub import CALLS
from tests.small import files, unchecked
from tests.tasks.test_image import bars


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A classifier of images in files, whose folders are of nobody's interest."""
    folder = tmp_path_factory.mktemp("secret")
    for i, (pixels, label) in enumerate(zip(*bars(), strict=True)):
        (folder / "images" / label).mkdir(exist_ok=True, parents=True)
        Pillow.fromarray((pixels * 255).astype(np.uint8)).save(folder / "images" / label / f"{i}.png")
    return image.fit(folder / "images", folder / "run", epochs=1, batch=8, hidden=4)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the Hub was asked for; its only repository is tmp_path / "hub"."""
    asked: dict[str, Any] = {}

    def create_repo(api: Any, repo_id: str, **options: Any) -> str:
        asked["create"] = {"repo_id": repo_id, "token": api.token, **options}
        return f"https://huggingface.co/{repo_id}"

    def upload_folder(api: Any, *, folder_path: Path, delete_patterns: list[str], **options: Any) -> None:
        asked["upload"] = options
        (tmp_path / "hub").mkdir(exist_ok=True)
        for name in [name for name in files(tmp_path / "hub") if any(fnmatch(name, p) for p in delete_patterns)]:
            (tmp_path / "hub" / name).unlink()
        shutil.copytree(folder_path, tmp_path / "hub", dirs_exist_ok=True)

    def snapshot_download(api: Any, repo_id: str, *, allow_patterns: list[str], **options: Any) -> str:
        asked["download"] = {"repo_id": repo_id, "token": api.token, **options}
        (tmp_path / "cache").mkdir()
        for name in [name for name in files(tmp_path / "hub") if any(fnmatch(name, p) for p in allow_patterns)]:
            shutil.copy(tmp_path / "hub" / name, tmp_path / "cache" / name)
        return str(tmp_path / "cache")

    for function in (create_repo, upload_folder, snapshot_download):
        monkeypatch.setattr(f"huggingface_hub.HfApi.{function.__name__}", function)
    return asked


def test_a_run_is_pushed_and_loaded_again(reader: Trained, hub: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "tokenizer.json").write_text("of a run that was there before")
    url = reader.push_to_hub("me/bars", private=True, token="hf_x", commit_message="First", license="mit")
    assert url == "https://huggingface.co/me/bars"
    assert hub["create"] == {"repo_id": "me/bars", "token": "hf_x", "private": True, "exist_ok": True}
    assert hub["upload"] == {"repo_id": "me/bars", "revision": None, "commit_message": "First"}
    pushed = {"config.json", "codec.json", "model.safetensors", "baseline.safetensors", "metrics.csv", "README.md"}
    assert files(tmp_path / "hub") == pushed | {"checksums.json", "curves.png", "confusion.png"}
    (tmp_path / "hub" / "evil.pkl").write_bytes(b"cos\nsystem\n")
    loaded = tasks.from_hub("me/bars", revision="v1")
    assert hub["download"] == {"repo_id": "me/bars", "token": None, "revision": "v1"}
    assert "evil.pkl" not in files(tmp_path / "cache")
    np.testing.assert_array_equal(loaded.predict_proba(bars(4)[0]), reader.predict_proba(bars(4)[0]))
    assert loaded.scores == reader.scores
    assert (
        reader.run.config["data"]["files"] == json.loads((reader.run.path / "config.json").read_text())["data"]["files"]
    )
    assert "secret" in str(reader.run.config["data"]["files"])  # the run itself is unchanged


def test_no_folder_of_this_machine_is_pushed(reader: Trained, hub: dict[str, Any], tmp_path: Path) -> None:
    reader.push_to_hub("me/bars")
    for path in (tmp_path / "hub").iterdir():
        assert b"secret" not in path.read_bytes(), path
    assert json.loads((tmp_path / "hub" / "config.json").read_text())["data"]["files"] == ["images"]


def test_the_model_card_is_filled(reader: Trained, hub: dict[str, Any], tmp_path: Path) -> None:
    reader.push_to_hub("me/bars", license="mit")
    card = (tmp_path / "hub" / "README.md").read_text()
    _, header, text = card.split("---\n", 2)
    assert header.splitlines() == [
        "library_name: elman",
        'tags: ["elman", "recurrent-neural-network", "gru"]',
        "pipeline_tag: image-classification",
        'license: "mit"',
    ]
    lines = text.splitlines()
    assert "| | accuracy | macro_f1 | nats_per_image |" in lines
    for name, row in reader.scores.items():
        assert f"| {name} | " + " | ".join(f"{value:.4f}" for value in row.values()) + " |" in lines
    assert 'model = elman.tasks.from_hub("me/bars")' in lines
    assert lines.count("| hidden | 4 |") == 1
    assert "| epochs | 1.0 |" in lines
    assert "on images." in text


def test_a_folder_is_taken_for_a_repository(reader: Trained, hub: dict[str, Any], tmp_path: Path) -> None:
    """A run that was pushed to a folder, or cloned."""
    assert Trained.from_hub(str(reader.run.path)).scores == reader.scores
    with pytest.raises(BadInput, match=r"expected a run folder, got a folder without config\.json"):
        tasks.from_hub(str(tmp_path))
    reader.push_to_hub("me/bars")
    (tmp_path / "hub" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(BadInput, match=r"model\.safetensors: expected the content that elman wrote"):
        tasks.from_hub("me/bars")
    assert "download" in hub


def test_an_interrupted_run_has_no_scores_to_show(reader: Trained, hub: dict[str, Any], tmp_path: Path) -> None:
    reader.save(tmp_path / "copy")
    unchecked(tmp_path / "copy")
    config = json.loads((tmp_path / "copy" / "config.json").read_text())
    (tmp_path / "copy" / "config.json").write_text(json.dumps(config | {"scores": None, "ended": None}))
    copy = tasks.load(tmp_path / "copy")
    assert copy.scores == {}
    copy.push_to_hub("me/bars")
    assert "The training was interrupted, and the model was not scored." in (tmp_path / "hub" / "README.md").read_text()


def test_without_huggingface_hub(reader: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackage, match=r"^push_to_hub needs huggingface_hub: pip install 'elman\[hub\]'$"):
        reader.push_to_hub("me/bars")
    with pytest.raises(MissingPackage, match=r"^from_hub needs huggingface_hub: pip install 'elman\[hub\]'$"):
        tasks.from_hub("me/bars")


def test_every_task_has_a_card_that_says_how_to_use_it() -> None:
    assert CALLS.keys() == set(tasks.TASKS)
    for calls in CALLS.values():
        assert all(hasattr(Trained, call.partition("(")[0]) for call in calls)
