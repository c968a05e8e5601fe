"""The CPU executor: compiles plans to vector code for this machine."""
