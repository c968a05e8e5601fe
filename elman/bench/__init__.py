"""Benchmarks of elman's layers against torch.nn's, in one process; outputs and gradients are compared first."""
