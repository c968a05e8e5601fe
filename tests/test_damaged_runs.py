"""Files of a run that are not as elman wrote them are refused in one line, and nothing is changed."""

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from elman.io.checksums import CHECKSUMS, CheckedFolder
from elman.io.run_folder import open_run
from tests.small import SMALL, Command, unchecked
from tests.test_bad_input import Evil, refused

LAST, BEST = "checkpoints/last.ckpt", "checkpoints/best.ckpt"
# A command that loads each file.
COMMANDS: dict[str, list[Any]] = {
    "model.safetensors": ["generate", "--length", 20, "--seed", 0],
    "tokenizer.json": ["generate", "--length", 20, "--seed", 0],
    "config.json": ["info"],
    "baseline.safetensors": ["evaluate"],
    LAST: ["train", "text", "--epochs", 3.1, "--resume"],
    BEST: ["train", "text", "--epochs", 3.1, "--resume"],
    CHECKSUMS: ["generate", "--length", 20, "--seed", 0],
}


@pytest.fixture
def checked(trained: Path, tmp_path: Path) -> Path:
    """A finished run, with its digests."""
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def use(elman: Command, name: str, run: Path, file: Path) -> Any:
    return elman(*COMMANDS[name], run, *([file] if COMMANDS[name] == ["evaluate"] else []))


def contents(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}


def flip(data: bytearray, draw: random.Random) -> bytes:
    data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(data)


def cut(data: bytearray, draw: random.Random) -> bytes:
    return bytes(data[: draw.randrange(len(data))])


def overwrite(data: bytearray, draw: random.Random) -> bytes:
    at = draw.randrange(len(data))
    data[at : at + 64] = draw.randbytes(64)
    return bytes(data)


def insert(data: bytearray, draw: random.Random) -> bytes:
    at = draw.randrange(len(data))
    return bytes(data[:at]) + draw.randbytes(draw.randrange(1, 9)) + bytes(data[at:])


MUTATIONS: list[Callable[[bytearray, random.Random], bytes]] = [flip, cut, overwrite, insert]


def test_every_file_that_is_loaded_has_a_digest(checked: Path, file: Path) -> None:
    recorded = json.loads((checked / CHECKSUMS).read_text())
    assert recorded.keys() == COMMANDS.keys() - {CHECKSUMS}
    for name, digests in recorded.items():
        assert hashlib.sha256((checked / name).read_bytes()).hexdigest() == digests[-1]


@pytest.mark.sample(8)
@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("name", COMMANDS)
def test_any_change_is_noticed(elman: Command, checked: Path, file: Path, name: str, seed: int) -> None:
    """Of the digests themselves, a change may also go unnoticed that changes nothing."""
    draw, path = random.Random(seed), checked / name
    expected = use(elman, name, checked, file).out if name == CHECKSUMS else ""
    path.write_bytes(MUTATIONS[seed % len(MUTATIONS)](bytearray(path.read_bytes()), draw))
    before = contents(checked)
    said = use(elman, name, checked, file)
    if name != CHECKSUMS or said.code:
        refused(
            said, str(checked), "SHA-256" if name == CHECKSUMS else f"{path}: expected the content that elman wrote"
        )
    else:
        assert said.out == expected
    assert contents(checked) == before


@pytest.mark.parametrize("seed", range(40))
def test_no_damaged_checkpoint_is_an_error_in_the_program(elman: Command, copied: Path, file: Path, seed: int) -> None:
    """As of runs of earlier versions, which have no digests: a change may go unnoticed that leaves a checkpoint."""
    draw, path = random.Random(seed), copied / LAST
    path.write_bytes(MUTATIONS[seed % len(MUTATIONS)](bytearray(path.read_bytes()), draw))
    before = contents(copied)
    said = use(elman, LAST, copied, file)
    if said.code:
        assert said.code in (1, 2)
        assert said.err.splitlines()[-1].startswith("elman: ")
    if said.code == 2:
        assert contents(copied) == before


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    checkpoint = torch.load(path, weights_only=True)
    edit(checkpoint)
    torch.save(checkpoint, path)


def of_another_model(checkpoint: dict[str, Any]) -> None:
    weights = checkpoint["state_dict"]
    weights["model.recurrent.weight_hh_l0"] = torch.zeros(36, 12)


def of_another_task(checkpoint: dict[str, Any]) -> None:
    checkpoint["state_dict"] = {"model.image.weight": torch.zeros(3, 3)}


def of_another_optimizer(checkpoint: dict[str, Any]) -> None:
    for state in checkpoint["optimizer_states"][0]["state"].values():
        state["exp_avg"] = torch.zeros(2, 2)


UNFIT: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "another run": (lambda c: c.update(run="0" * 64), "are those of another run"),
    "another model": (of_another_model, "recurrent.weight_hh_l0 of shape (48, 12) in float32 according to config.json"),
    "another task": (of_another_task, "expected embedding.weight of shape"),
    "another optimizer": (of_another_optimizer, "expected exp_avg of the optimizer in shape"),
    "no optimizer": (lambda c: c.pop("optimizer_states"), "missing key 'optimizer_states'"),
    "not a number": (lambda c: c["state_dict"]["model.embedding.weight"].fill_(torch.nan), "expected finite weights"),
    "a later version": (lambda c: c.update(callbacks=[]), "expected a checkpoint of this run"),
    "code": (lambda c: c.update(evil=Evil()), "expected a checkpoint of this run"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_a_checkpoint_that_does_not_fit(elman: Command, copied: Path, case: str) -> None:
    """Without digests, what it is for is in the checkpoint."""
    edit, message = UNFIT[case]
    change(copied / LAST, edit)
    before = contents(copied)
    refused(elman("train", "text", "--resume", copied, "--epochs", 4), str(copied / LAST), message)
    assert contents(copied) == before


def test_a_checkpoint_of_an_earlier_version(elman: Command, copied: Path, trained: Path, tmp_path: Path) -> None:
    """Without what later versions store, and without digests."""

    def earlier(checkpoint: dict[str, Any]) -> None:
        del checkpoint["run"], checkpoint["lesson"]["skipped"], checkpoint["callbacks"]["Clock"]["limits"]

    change(copied / LAST, earlier)
    change(copied / BEST, earlier)
    other = Path(shutil.copytree(trained, tmp_path / "other"))
    for run in (copied, other):
        assert elman("train", "text", "--resume", run, "--epochs", 3.5).code == 0
    assert (copied / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


def test_the_last_checkpoint_of_another_run(elman: Command, checked: Path, file: Path, tmp_path: Path) -> None:
    """Of a run of the same model: refused by its digest, and without digests by its seed."""
    other = tmp_path / "other"
    assert elman("train", "text", file, "--epochs", 1, "--seed", 1, "--out", other, *SMALL).code == 0
    shutil.copy(other / LAST, checked / LAST)
    before = contents(checked)
    resume = ["train", "text", "--resume", checked, "--epochs", 4]
    refused(elman(*resume), f"{checked / LAST}: expected the content that elman wrote", "of another run")
    assert contents(checked) == before
    unchecked(checked)
    refused(elman(*resume), f"{checked / LAST}: ", "are those of another run")


def test_the_best_checkpoint_replaces_a_lost_one(elman: Command, checked: Path) -> None:
    shutil.copy(checked / BEST, checked / LAST)
    assert elman("train", "text", "--resume", checked, "--epochs", 4).code == 0


def test_changes_on_purpose(elman: Command, checked: Path) -> None:
    """The line says how to make them."""
    config = json.loads((checked / "config.json").read_text())
    (checked / "config.json").write_text(json.dumps(config))
    refused(elman("info", checked), f"or delete {CHECKSUMS} if the change is on purpose")
    refused(elman("train", "text", "--config", checked, "--print-config"), "config.json: expected the content")
    unchecked(checked)
    assert elman("info", checked).code == 0
    open_run(checked).update(ended=None)
    assert json.loads((checked / CHECKSUMS).read_text()).keys() == {"config.json"}
    assert elman("info", checked).code == 0


def test_a_file_may_be_the_old_or_the_new_one_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies in between leaves the old one, at first and later."""
    replace = Path.replace

    def dying(path: Path, target: Path) -> Path:
        if target.name == "a":
            raise KeyboardInterrupt
        return replace(path, target)

    CheckedFolder(tmp_path).write({"a": b"first"})
    for data in (b"second", b"third"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", dying)
            with pytest.raises(KeyboardInterrupt):
                CheckedFolder(tmp_path).write({"a": data})
        assert CheckedFolder(tmp_path).read("a") == b"first"
    folder = CheckedFolder(tmp_path)
    folder.write({"a": b"fourth"})
    assert CheckedFolder(tmp_path).read("a") == b"fourth"
    folder.write({"a": b"fifth"})
    assert len(json.loads((tmp_path / CHECKSUMS).read_text())["a"]) == 2  # they do not pile up
    assert CheckedFolder(tmp_path).read("a") == b"fifth"


def test_a_file_that_is_replaced_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a training, whose best model another process loads."""
    folder = CheckedFolder(tmp_path)
    folder.write({"a": b"first"})
    digests, times = CheckedFolder._recorded, [2]

    def late(self: CheckedFolder) -> dict[str, list[str]]:
        """The training writes twice between the file and the digests are read."""
        if self is not folder and times and times.pop():
            folder.write({"a": b"second"})
            folder.write({"a": b"third"})
        return digests(self)

    monkeypatch.setattr(CheckedFolder, "_recorded", late)
    assert CheckedFolder(tmp_path).read("a") == b"third"


LINKS = ["checkpoints", "tensorboard", ".lock", "config.json", "metrics.csv", CHECKSUMS, "model.safetensors", "flow"]


@pytest.mark.sample(4)
@pytest.mark.parametrize("name", LINKS)
def test_nothing_is_written_through_links(elman: Command, copied: Path, tmp_path: Path, name: str) -> None:
    """In the folder of a stranger's run: that folders are links is refused, and files that are links are replaced."""
    elsewhere, path = tmp_path / "elsewhere", copied / name
    if path.is_dir():
        path.rename(elsewhere)
    elif name == "flow":
        elsewhere.mkdir()
    elif path.exists():
        shutil.copy(path, elsewhere)
        path.unlink()
    else:
        elsewhere.write_text("{}")
    path.symlink_to(elsewhere)
    before = contents(elsewhere) if elsewhere.is_dir() else elsewhere.read_bytes()
    said = elman("flow", copied) if name == "flow" else elman("train", "text", "--resume", copied, "--epochs", 3.1)
    if elsewhere.is_dir():
        refused(said, f"{path}: expected a folder, got a symbolic link")
        assert contents(elsewhere) == before
    else:
        assert elsewhere.read_bytes() == before
        assert said.code == 0 or name == ".lock"
        assert not path.is_symlink() or name == ".lock"
