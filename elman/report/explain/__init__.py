"""A sentence, the network that learns it, and every number of that, as one page for the browser."""
