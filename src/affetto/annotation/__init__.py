"""Annotations: speaker embeddings and clusters, as columns of a manifest."""
