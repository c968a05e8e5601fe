"""The weights of layers in the order of other libraries: Keras and ONNX."""

from elman.weights.keras import from_keras, to_keras
from elman.weights.onnx import from_onnx, to_onnx

__all__ = ["from_keras", "from_onnx", "to_keras", "to_onnx"]
