"""Reading tar files without a cache: every utterance once, in the order of the files, whoever shares them."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from affetto.corpora import packing
from affetto.corpora.manifest import Manifest
from affetto.data import PackedWaveforms, ShardBatches, WaveformCache, streams
from affetto.data.batches import by_length, by_speaker
from affetto.errors import AffettoError, ConfigError, ManifestError
from affetto.members import member_of

SHARDS = np.split(np.arange(1000), [300, 420, 700])
LENGTHS = np.random.default_rng(0).integers(10, 1000, 1000)


def made(
    batch: int = 16, buffer: int = 256, shards: list[NDArray[np.int64]] = SHARDS, **other: int
) -> ShardBatches:
    def order(places: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        return by_length(places, LENGTHS, generator)

    return ShardBatches(shards, batch // other.get("world", 1), buffer, order, **other)


@pytest.mark.parametrize("count", [1, 2, 7, 17, 63, 64, 65, 1000])
@pytest.mark.parametrize("world", [1, 2, 3, 4, 16])
def test_every_utterance_comes_once_and_everybody_has_as_many_batches(count: int, world: int) -> None:
    def given(rank: int) -> ShardBatches:
        shards = np.array_split(np.arange(count), 3)
        return ShardBatches(shards, 4, 64, lambda places, _: places, rank=rank, world=world, seed=1)

    if count // max(1, -(-count // (4 * world))) < world:
        with pytest.raises(ConfigError, match="are needed"):
            given(0)
        return
    shares = [given(rank).batches(2) for rank in range(world)]
    assert {len(share) for share in shares} == {len(given(0))}
    assert all(len(batch) for share in shares for batch in share)
    everything = np.concatenate([batch for share in shares for batch in share])
    assert np.array_equal(np.sort(everything), np.arange(count))


@pytest.mark.parametrize("world", [2, 4, 8])
def test_several_processes_take_what_one_would(world: int) -> None:
    whole = made().batches(3)
    shares = [made(rank=rank, world=world).batches(3) for rank in range(world)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert set(batch) == set(np.concatenate(parts))
    # and no process reads what is another's
    assert sum(len(set(np.concatenate(share))) for share in shares) == 1000


def test_only_a_buffer_of_each_stream_is_open_at_a_time() -> None:
    source = made()
    assert source.together == 16
    batches = source.batches(0)
    for first in range(0, len(batches), 16):
        together = np.sort(np.concatenate(batches[first : first + 16]))
        runs = np.split(together, np.flatnonzero(np.diff(together) > 1) + 1)
        assert len(runs) <= 8 + 3  # eight streams, and what ends in a shard goes on in another
    assert [batch.tolist() for batch in batches] != [batch.tolist() for batch in source.batches(1)]


def test_an_epoch_goes_on_in_its_middle() -> None:
    source, again = made(), made()
    whole = [batch.tolist() for batch in source]
    steps = iter(again)
    first = [next(steps).tolist() for _ in range(20)]
    third = made()
    third.load_state_dict(again.state_dict())
    assert first + [batch.tolist() for batch in third] == whole
    assert third.state_dict() == {"epoch": 1, "position": 0}


def test_lengths_and_speakers_go_together() -> None:
    spread = [np.ptp(LENGTHS[batch]) for batch in made(buffer=1000).batches(0)]
    assert np.mean(spread) < 400  # of 990
    speakers, groups = np.repeat(np.arange(100), 10), np.arange(1000) % 3

    def order(places: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        return by_speaker(places, speakers, groups, 4, generator)

    for batch in ShardBatches(SHARDS, 32, 512, order).batches(0):
        assert len(np.unique(speakers[batch])) <= 20  # of 32 utterances, most in sets of four


@pytest.fixture
def packed(corpus: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    monkeypatch.setattr(packing, "_SHARD_BYTES", 1 << 19)
    packing.pack(corpus, tmp_path / "toy")
    return Manifest.read(tmp_path / "toy" / packing.PACKED)


def test_it_stacks_what_the_cache_would_and_reads_each_stretch_once(
    corpus: Manifest, packed: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_STRETCH_BYTES", 100_000)
    reads: list[int] = []
    read = PackedWaveforms._read

    def counted(self: PackedWaveforms, number: int) -> bytes:
        reads.append(number)
        return read(self, number)

    monkeypatch.setattr(PackedWaveforms, "_read", counted)
    cache, store = WaveformCache.open(corpus), PackedWaveforms(packed)
    shards = store.by_shard(np.arange(60))
    assert len(shards) > 2
    batches = ShardBatches(shards, 8, 24, lambda places, _: places)
    store.keep = batches.together
    for batch in batches:
        for one, other in zip(store.stack(batch), cache.stack(batch), strict=True):
            assert one.equal(other)
    assert len(reads) > 10
    assert np.unique(reads, return_counts=True)[1].max() <= 2  # a stretch of two buffers
    assert len(store._held) < len(set(reads))
    assert store.errors == {}


def test_damage_is_silence_with_its_reason_and_a_missing_file_ends_it(packed: Manifest) -> None:
    member = member_of(packed.paths[3])
    assert member is not None
    with open(member.tar, "r+b") as file:
        file.seek(member.offset + 50)
        file.write(b"\xff" * 4000)
    store = PackedWaveforms(packed)
    waveforms, lengths = store.stack(np.array([2, 3]))
    assert lengths.tolist() == packed.table["samples"][2:4].tolist()
    assert waveforms[0].abs().max() > 0
    assert waveforms[1].abs().max() == 0
    assert list(store.errors) == [packed.keys[3]]
    short = PackedWaveforms(packed.with_columns({"samples": 7}))
    assert "the manifest says 7" in (short.stack(np.array([2])) and short.errors[packed.keys[2]])
    Path(member.tar).unlink()
    with pytest.raises(AffettoError, match="goes on from the last checkpoint"):
        PackedWaveforms(packed).stack(np.array([0]))


def test_what_cannot_be_streamed_is_refused(corpus: Manifest, packed: Manifest) -> None:
    with pytest.raises(ManifestError, match=r"60 are in none.*affetto manifest pack"):
        PackedWaveforms(corpus)
    with pytest.raises(ManifestError, match="samples"):
        PackedWaveforms(Manifest(packed.table.drop(columns="samples"), packed.roots))
