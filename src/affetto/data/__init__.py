"""Decoded corpora on disk, batches, and which utterances go together.

Every recording is decoded once and kept as 16-bit samples in one memory-mapped file; what training changes
about a waveform happens after that. The caches are named by what they were made from, so nothing ever has to
be invalidated: a changed file makes another cache.
"""

from affetto.data.batches import Batch, LengthBuckets, collate
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
    "collate",
]
