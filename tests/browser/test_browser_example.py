"""examples/browser: a page on which an exported model writes, as WebAssembly, opened in a browser."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
from tokenizers import Tokenizer
from torch import nn

import elman
from elman import tasks
from elman.data import tokenizers
from elman.data.token_kinds import Kind
from elman.tasks.text.model import LanguageModel
from elman.tasks.text.sample import generate
from tests.browser.test_report import WIDTHS
from tests.small import text

if TYPE_CHECKING:
    from playwright.sync_api import Page

BUILD = Path(__file__).parents[2] / "examples" / "browser" / "build.py"
CELLS: dict[Kind, str] = {"char": "lstm", "word": "slstm", "bpe": "gru"}  # slstm calls a function of math.h
CHARACTERS = pytest.mark.parametrize("written", ["char"], indirect=True)
PROMPT = "the \N{EURO SIGN}cat"


class Written(NamedTuple):
    """A page, and the model and tokenizer in it."""

    path: Path
    model: LanguageModel
    tokenizer: Tokenizer


def build(folder: Path, page: Path, **options: Any) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(BUILD), str(folder), "--out", str(page)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def export(folder: Path, kind: Kind) -> Written:
    """Export a model of random weights, which draws clear conclusions from them."""
    torch.manual_seed(0)
    tokenizer = tokenizers.fit(kind, text() + " caf\N{LATIN SMALL LETTER E WITH ACUTE}", 300)
    model = LanguageModel(tokenizer.get_vocab_size(), CELLS[kind], 8, 12).eval()
    for value in model.parameters():
        nn.init.normal_(value, std=0.7)
    elman.export.c(model, folder / "model.c")
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    return Written(folder / "page.html", model, tokenizer)


@pytest.fixture(scope="module")
def compiler() -> None:
    for program in ("clang", "wasm-ld"):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}; install clang and lld")


@pytest.fixture(scope="module", params=CELLS)
def written(compiler: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    result = export(tmp_path_factory.mktemp(request.param), request.param)
    built = build(result.path.parent, result.path)
    assert built.returncode == 0, built.stderr
    assert built.stdout.startswith(str(result.path))
    return result


@pytest.fixture
def requests(page: "Page") -> list[str]:
    """The addresses that the page asks for."""
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    return urls


def opened(page: "Page", path: Path) -> "Page":
    page.goto(path.as_uri())
    page.wait_for_selector("#write:enabled")
    return page


def wait_for(page: "Page", characters: int) -> str:
    page.wait_for_function(f"document.getElementById('rest').textContent.length >= {characters}")
    return page.text_content("#rest") or ""


@pytest.mark.sample(1)
def test_it_writes_what_the_model_writes(written: Written, page: "Page", requests: list[str]) -> None:
    opened(page, written.path)
    page.fill("#prompt", PROMPT)
    page.fill("#temperature", "0")
    page.click("#write")
    known, unknown = tokenizers.split_known(written.tokenizer, PROMPT)
    ids = tokenizers.encode(written.tokenizer, known).tolist()
    never = written.tokenizer.token_to_id(tokenizers.UNKNOWN)
    tokens = list(generate(written.model, ids, 40, temperature=0, never=never))
    expected = written.tokenizer.decode(tokens).rstrip("\N{REPLACEMENT CHARACTER}")  # an incomplete character
    assert wait_for(page, len(expected)).startswith(expected)
    assert page.text_content("#begin") == PROMPT
    assert ("Skipped" in (page.text_content("#note") or "")) == bool(unknown)
    assert {url.partition(":")[0] for url in requests} <= {"file", "data"}


@pytest.mark.sample(1)
def test_it_tokenizes_as_the_tokenizer(written: Written, page: "Page") -> None:
    opened(page, written.path)
    for prompt in (text(300), "It's the cats' caf\N{LATIN SMALL LETTER E WITH ACUTE}, isn't it?\n\n  12 ", "", " "):
        known, unknown = tokenizers.split_known(written.tokenizer, prompt)
        encoded = page.evaluate(f"readTokenizer(data.tokenizer).encode({json.dumps(prompt)})")
        assert encoded == {"ids": tokenizers.encode(written.tokenizer, known).tolist(), "unknown": unknown}
        pieces = f"const d = readTokenizer(data.tokenizer).decoder(); return {encoded['ids']}.map(d).join('')"
        assert page.evaluate(f"(() => {{ {pieces} }})()") == known


@CHARACTERS
def test_text_appears_until_it_is_stopped(written: Written, page: "Page") -> None:
    opened(page, written.path)
    page.fill("#temperature", "1.5")
    page.click("#write")
    first = wait_for(page, 1)
    assert page.inner_text("#write") == "Stop"
    assert wait_for(page, len(first) + 20).startswith(first)
    page.click("#write")
    assert page.inner_text("#write") == "Write"
    end = page.text_content("#rest")
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.text_content("#rest") == end


@CHARACTERS
def test_tokens_are_drawn_from_the_softmax(written: Written, page: "Page") -> None:
    opened(page, written.path)
    draw = "Array.from({length: 20000}, () => choose([2, 0, 1, 9], 2, 3))"
    counts = torch.tensor(page.evaluate(draw)).bincount(minlength=4)
    expected = torch.tensor([2.0, 0.0, 1.0, -torch.inf]).div(2).softmax(0)
    deviation = (20000 * expected * (1 - expected)).sqrt()
    assert ((counts - 20000 * expected).abs() <= 6 * deviation).all()


@pytest.mark.usefixtures("compiler")
def test_an_exported_run_becomes_a_page(copied: Path, page: "Page", tmp_path: Path) -> None:
    trained = tasks.load(copied)
    trained.export("c", tmp_path / "model")
    built = build(tmp_path / "model", tmp_path / "page.html")
    assert built.returncode == 0, built.stderr
    opened(page, tmp_path / "page.html")
    page.fill("#prompt", "the ")
    page.fill("#temperature", "0")
    page.click("#write")
    expected = trained.generate("the ", 10, temperature=0).removeprefix("the ")
    assert expected
    assert wait_for(page, len(expected)).startswith(expected)


@CHARACTERS
@pytest.mark.sample(1)
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits(written: Written, page: "Page", width: str) -> None:
    across, down = WIDTHS[width]
    page.set_viewport_size({"width": across, "height": down})
    opened(page, written.path)
    assert page.evaluate("document.documentElement.scrollWidth") == across


def test_the_template_has_no_model(page: "Page") -> None:
    page.goto((BUILD.parent / "index.html").as_uri())
    assert page.is_disabled("#write")


def test_another_folder_is_refused(tmp_path: Path) -> None:
    built = build(tmp_path, tmp_path / "page.html")
    assert built.returncode == 1
    message = f"build.py: {tmp_path}: expected a folder with an exported text model, got no model.c\n"
    assert built.stderr == message


def test_a_missing_compiler_is_named(tmp_path: Path) -> None:
    export(tmp_path, "char")
    built = build(tmp_path, tmp_path / "page.html", env={"PATH": ""})
    assert built.returncode == 1
    assert built.stderr == "build.py: expected the compiler clang and the linker wasm-ld; install clang and lld\n"
    assert not (tmp_path / "page.html").exists()
