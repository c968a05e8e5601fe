"""An interactive HTML page that shows every number of a network learning a sentence."""
