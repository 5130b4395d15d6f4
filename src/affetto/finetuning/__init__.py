"""Finetuning: a recogniser, fold by fold, from labelled recordings."""
