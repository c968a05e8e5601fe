"""Captures one step of a cell and its vector-Jacobian product as a checked graph of torch operations."""
