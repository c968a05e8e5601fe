"""What backends that compile plans share: which calls they run, the plans of cells, autograd and observers."""
