"""The executor that compiles: a plan, written as vector code for this machine's CPU."""
