"""Decoded corpora on disk, named by a hash of their inputs, and batches of them."""

from affetto.data.batches import Batch, LengthBuckets
from affetto.data.caches import FeatureCache, WaveformCache, cache_dir
from affetto.data.loader import FixedVectors, Loader, Store
from affetto.data.speaker_batches import NONE, SpeakerBatches

__all__ = [
    "NONE",
    "Batch",
    "FeatureCache",
    "FixedVectors",
    "LengthBuckets",
    "Loader",
    "SpeakerBatches",
    "Store",
    "WaveformCache",
    "cache_dir",
]
