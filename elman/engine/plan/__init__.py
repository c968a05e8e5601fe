"""A captured step, planned for a loop over time: an intermediate representation that knows no backend."""
