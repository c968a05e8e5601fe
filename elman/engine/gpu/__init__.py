"""Runs plans on a GPU, as Triton kernels."""
