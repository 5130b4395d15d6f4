"""Recordings as networks and classifiers take them."""
