"""Plans a captured step for a loop over time, in an intermediate representation that knows no backend."""
