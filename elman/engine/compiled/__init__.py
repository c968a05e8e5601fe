"""Shared by backends that compile plans: which calls they run, the plans of cells, autograd and observers."""
