"""Analyses of clusters and layers, and their pages."""
