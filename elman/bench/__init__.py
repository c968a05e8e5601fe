"""Measuring: our layers against torch.nn's, in one process, and only where both give the same numbers."""
