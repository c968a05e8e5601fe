"""What every cell must keep, with every executor."""
