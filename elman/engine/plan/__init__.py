"""Plans the loop over time of a captured step, in an intermediate representation that no backend is part of."""
