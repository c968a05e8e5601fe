"""Fuzzing of everything that reads files: damaged files are refused in one line, or read, and nothing else happens.

`test_fuzz.py` runs a fixed number of inputs for each loader. `python -m tests.fuzz --seconds 600 idx midi` goes on for
longer, in processes with a limit of memory and of time for each input, and prints counts.
"""
