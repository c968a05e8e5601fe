"""Training of all tasks with Lightning."""
