"""Use an exported folder with NumPy and its runtime alone: FOLDER, and a folder with numbers of its parts.

Prints for each part what was compared, and the largest difference.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Arrays = Mapping[str, Any]


def loaded(folder: Path, format: str, part: str, signature: Mapping[str, Any]) -> Callable[[Arrays], Arrays]:
    """Load a part as export.json says."""
    inputs, outputs = ([spec["name"] for spec in signature[side]] for side in ("inputs", "outputs"))
    if format == "onnx":
        from onnxruntime import InferenceSession

        session = InferenceSession(folder / f"{part}.onnx")
        return lambda arrays: dict(zip(outputs, session.run(outputs, arrays), strict=True))
    import torch

    program = torch.export.load(folder / f"{part}.pt2").module()

    def run(arrays: Arrays) -> Arrays:
        results = program(*(torch.from_numpy(arrays[name]) for name in inputs))
        results = results if isinstance(results, tuple) else (results,)
        return {name: value.detach().numpy() for name, value in zip(outputs, results, strict=True)}

    return run


def difference(results: Arrays, expected: Arrays) -> float:
    """Return the largest difference, relative to numbers beyond 1."""
    largest = 0.0
    for name, values in expected.items():
        assert results[name].shape == values.shape
        assert results[name].dtype == values.dtype
        differs = results[name] != values
        errors = np.abs(results[name][differs] - values[differs]) / np.maximum(1, np.abs(values[differs]))
        largest = max(largest, *errors.tolist(), 0.0)
    return largest


def by_steps(run: Callable[[Arrays], Arrays], signature: Mapping[str, Any], inputs: Arrays) -> Arrays:
    """Run one step after another, with the states fed back."""
    sides = ("inputs", "outputs")
    by_step, joined = (
        {spec["name"]: spec["shape"].index("steps") for spec in signature[side] if "steps" in spec["shape"]}
        for side in sides
    )
    [(name, time)] = by_step.items()
    current, pieces = dict(inputs), []
    for t in range(inputs[name].shape[time]):
        pieces.append(run(current | {name: inputs[name].take([t], time)}))
        current |= {spec["name"]: pieces[-1][spec["final"]] for spec in signature["inputs"] if "final" in spec}
    whole = {name: np.concatenate([piece[name] for piece in pieces], axis) for name, axis in joined.items()}
    return {**pieces[-1], **whole}


def main() -> None:
    """Compare every part."""
    folder, numbers = map(Path, sys.argv[1:])
    about = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    for part, signature in about["parts"].items():
        recorded = np.load(numbers / f"{part}.npz")
        inputs, expected = (
            {name.removeprefix(side): recorded[name] for name in recorded if name.startswith(side)}
            for side in ("input ", "output ")
        )
        run = loaded(folder, about["format"], part, signature)
        kinds, largest = ["whole"], difference(run(inputs), expected)
        if any("final" in spec for spec in signature["inputs"]) and any(
            "steps" in spec["shape"] for spec in signature["inputs"]
        ):
            kinds.append("steps")
            largest = max(largest, difference(by_steps(run, signature, inputs), expected))
        print(part, ",".join(kinds), largest)
    tokenizers = sorted(folder.glob("*tokenizer*.json"))
    if tokenizers:
        from tokenizers import Tokenizer

        for path in tokenizers:
            tokenizer = Tokenizer.from_file(str(path))
            assert tokenizer.decode(tokenizer.encode("the cat").ids)


if __name__ == "__main__":
    main()
