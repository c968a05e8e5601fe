"""Networks as pictures, folded and unfolded."""
