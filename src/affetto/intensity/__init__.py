"""Emotional intensity: curves over frames, their networks and their report."""
