"""Tests of the triton executor, in Triton's interpreter."""
