"""Recipes: the only place where settings meet the parts; one verb a file."""
