"""Experiments: many runs from one file, and tables of their results."""

from affetto.experiment.results import Result, draw_results, read_results, write_results

__all__ = ["Result", "draw_results", "read_results", "write_results"]
