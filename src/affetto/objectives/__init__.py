"""Objectives: one paper a file, behind the contract of ``objective.py``."""
