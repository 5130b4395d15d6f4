"""Recordings and labels, in the form that networks and classifiers read."""
