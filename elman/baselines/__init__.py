"""Baselines that need no recurrent network. They take arrays and texts, never a task."""
