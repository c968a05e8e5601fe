"""The laws of this project, each a test."""
