"""Curves of emotional intensity over frames, the networks that predict them, and their page."""
