"""Baselines without recurrent networks. They take arrays and texts, and are independent of tasks."""
