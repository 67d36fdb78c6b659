"""Runs Bellhop: the command line, the development stack, benchmarks. The topmost layer; nothing imports it."""
