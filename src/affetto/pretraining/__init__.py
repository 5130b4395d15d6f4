"""Pretraining: an encoder, from recordings without emotion labels."""
