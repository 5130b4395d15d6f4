"""Annotations: columns that say something about recordings."""
