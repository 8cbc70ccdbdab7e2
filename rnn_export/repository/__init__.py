"""A Triton model repository, also somebody else's: read, run in a child process, and held against ``rules/``."""
