"""Decoded corpora on disk, named by a hash of their inputs, and batches of them."""

from affetto.data.batches import NONE, Batch, LengthBuckets, SpeakerBatches
from affetto.data.caches import FeatureCache, WaveformCache, cache_dir
from affetto.data.loader import FixedVectors, Loader, Store
from affetto.data.streams import PackedWaveforms, ShardBatches

__all__ = [
    "NONE",
    "Batch",
    "FeatureCache",
    "FixedVectors",
    "LengthBuckets",
    "Loader",
    "PackedWaveforms",
    "ShardBatches",
    "SpeakerBatches",
    "Store",
    "WaveformCache",
    "cache_dir",
]
