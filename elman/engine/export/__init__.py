"""The forward part of a captured step, for exporters, and its lowering to other languages."""
