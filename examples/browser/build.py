"""Build a page on which an exported language model writes in the browser: python build.py FOLDER [--out page.html]

FOLDER is from `elman export RUN --format c`, for a run of `elman train text`: model.c, model.h and tokenizer.json. This
needs clang and wasm-ld (lld). The page is a single file that asks nothing of the network.
"""

import argparse
import base64
import json
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
# Functions of math.h that some cells call, and that JavaScript has: the page passes them to the model.
MATH = ["atan", "cos", "cosh", "exp", "expm1", "log", "log1p", "pow", "sin", "sinh", "tanh"]


def compile_model(folder: Path) -> bytes:
    """Compile an exported model to WebAssembly, without a C library."""
    clang = shutil.which("clang")
    if clang is None or shutil.which("wasm-ld") is None:
        raise SystemExit("build.py: expected the compiler clang and the linker wasm-ld; install clang and lld")
    with TemporaryDirectory() as temporary:
        imports, result = Path(temporary) / "imports.txt", Path(temporary) / "model.wasm"
        imports.write_text("".join(f"{name}f\n" for name in MATH))
        target = ["--target=wasm32", "-O3", "-msimd128", "-mbulk-memory", "-nostdlib"]
        linker = ["-Wl,--no-entry", "-Wl,--strip-all", f"-Wl,--allow-undefined-file={imports}"]
        sources = [f"-I{folder}", str(folder / "model.c"), str(HERE / "writer.c")]
        subprocess.run([clang, *target, *linker, *sources, "-o", str(result)], check=True)  # noqa: S603
        return result.read_bytes()


def build(folder: Path, page: Path) -> None:
    """Write the page: HTML, style, scripts, tokenizer and model in one file."""
    for name in ("model.c", "model.h", "tokenizer.json"):
        if not (folder / name).is_file():
            raise SystemExit(f"build.py: {folder}: expected a folder with an exported text model, got no {name}")
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    data = {"wasm": base64.b64encode(compile_model(folder)).decode(), "math": MATH, "tokenizer": tokenizer}
    html = (HERE / "index.html").read_text(encoding="utf-8")
    for name in ("style.css", "tokenizer.js", "page.js"):
        html = html.replace(f"/* {name} */", (HERE / name).read_text(encoding="utf-8"))
    model = json.dumps(data).replace("<", "\\u003c")  # which could end the script
    page.write_text(html.replace(">null<", f">{model}<"), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("folder", type=Path, help="folder of the exported model")
    parser.add_argument("--out", type=Path, default=Path("page.html"), help="the page")
    arguments = parser.parse_args()
    build(arguments.folder, arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1e6:.1f} MB; open it in a browser")
