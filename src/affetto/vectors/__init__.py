"""Vectors of utterances without speaker or content, and k-means on them."""
