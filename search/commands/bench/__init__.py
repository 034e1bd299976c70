"""Benchmarks: ratios of two ways to do the same, measured in one run."""

from search.commands.bench.command import COMMAND

__all__ = ["COMMAND"]
