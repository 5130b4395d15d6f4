"""Caches survive two writers and a full disk; every utterance comes once an epoch; epochs can be resumed."""

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from affetto.audio import decode
from affetto.data import FeatureCache, LengthBuckets, Loader, WaveformCache, cache_dir
from affetto.data.batches import EpochBatches
from affetto.data.caches import Resident
from affetto.errors import AffettoError, ConfigError


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Caches lie in the folder of the test, those of other processes too."""
    monkeypatch.setenv("AFFETTO_CACHE", str(tmp_path))


class Folder:
    """The least that is needed of a manifest."""

    def __init__(self, folder: Path, names: list[str], parts: list[tuple[float, float]]) -> None:
        keys = [f"{name}#{number}" for number, name in enumerate(names)]
        self.table = pd.DataFrame(parts, columns=["start", "end"]).assign(key=keys)
        self.paths = [folder / name for name in names]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    generator = np.random.default_rng(0)
    names = []
    for number, seconds in enumerate((0.5, 0.2, 1.0)):
        names.append(f"{number}.flac")
        noise = 0.1 * generator.standard_normal(round(seconds * 16_000))
        soundfile.write(tmp_path / names[-1], noise, 16_000)
    (tmp_path / "broken.wav").write_bytes(b"not audio at all" * 9)
    whole = (math.nan, math.nan)
    return Folder(
        tmp_path,
        [*names, "broken.wav", "gone.wav", "2.flac"],
        [whole, whole, whole, whole, whole, (0.25, 0.75)],
    )


def test_cache_dir_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AFFETTO_CACHE", str(tmp_path / "here"))
    assert cache_dir() == tmp_path / "here"
    monkeypatch.delenv("AFFETTO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_dir() == tmp_path / "user" / "affetto"


def test_rows_are_what_decode_returns(folder: Folder) -> None:
    cache = WaveformCache.open(folder)
    assert cache.lengths.tolist() == [8000, 3200, 16_000, 0, 0, 8000]
    assert len(cache) == 6
    for row in range(3):
        np.testing.assert_array_equal(cache[row], decode(folder.paths[row]))
    np.testing.assert_array_equal(cache[5], decode(folder.paths[2], 0.25, 0.75))
    assert set(cache.errors) == {"broken.wav#3", "gone.wav#4"}
    assert "not audio" in cache.errors["broken.wav#3"]
    assert "no such file" in cache.errors["gone.wav#4"]


def test_a_cache_is_made_once_and_again_when_a_file_changes(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = WaveformCache.open(folder)
    assert first.folder.is_relative_to(cache_dir())
    with monkeypatch.context() as patched:
        patched.setattr("affetto.data.caches.decode", lambda *_: pytest.fail("decoded again"))
        assert WaveformCache.open(folder).errors == first.errors
    soundfile.write(folder.paths[0], np.zeros(160), 16_000)
    second = WaveformCache.open(folder)
    assert second.folder != first.folder
    assert second.lengths[0] == 160


BUILD = """
import time
import numpy as np
from affetto.data import FeatureCache
def produce():
    print("fills", flush=True)
    for number in range(40):
        time.sleep(0.05)
        yield np.full((number, 3), number, np.float32)
cache = FeatureCache.open("abc", produce)
assert all((cache[n] == n).all() and cache[n].shape == (n, 3) for n in range(40))
print("good")
"""


def started(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_of_two_processes_one_writes_and_both_read() -> None:
    both = [started(BUILD), started(BUILD)]
    said = sorted(process.communicate(timeout=60)[0].split() for process in both)
    assert said == [["fills", "good"], ["good"]]


def test_a_killed_writer_leaves_nothing_that_is_taken_for_a_cache(tmp_path: Path) -> None:
    process = started(BUILD)
    assert process.stdout is not None
    assert process.stdout.readline() == "fills\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert not (tmp_path / "frames" / "abc").exists()
    cache = FeatureCache.open("abc", lambda: iter([np.ones((2, 3), np.float32)]))
    assert len(cache) == 1
    assert sorted(os.listdir(tmp_path / "frames")) == ["abc", "abc.lock"]


FULL = """
import resource
import numpy as np
from affetto.data import FeatureCache
from affetto.errors import AffettoError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    FeatureCache.open("abc", lambda: (np.zeros((1000, 3), np.float32) for _ in range(50)))
except AffettoError as error:
    print(error)
"""


def test_a_full_disk_is_said_and_leaves_no_half_cache(tmp_path: Path) -> None:
    said, trouble = started(FULL).communicate(timeout=60)
    assert "cannot write the cache in" in said, trouble
    assert "AFFETTO_CACHE" in said
    assert os.listdir(tmp_path / "frames") == ["abc.lock"]


def test_a_cache_folder_that_cannot_be_made_is_said(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AFFETTO_CACHE", str(tmp_path / "file"))
    with pytest.raises(AffettoError, match="cannot write the cache"):
        WaveformCache.open(folder)


def test_vectors_and_nothing_at_all_can_be_cached(tmp_path: Path) -> None:
    vectors = [np.arange(4, dtype=np.float32) + number for number in range(3)]
    cache = FeatureCache.open("vectors", lambda: iter(vectors))
    np.testing.assert_array_equal(cache.values, np.stack(vectors))
    np.testing.assert_array_equal(np.load(cache.folder / "values.npy"), cache.values)
    assert cache.lengths.tolist() == [1, 1, 1]
    assert len(FeatureCache.open("nothing", lambda: iter(()))) == 0
    uneven = [np.zeros((1, 3), np.float32), np.zeros((1, 4), np.float32)]
    with pytest.raises(AffettoError, match=r"\[3, 4\] columns"):
        FeatureCache.open("uneven", lambda: iter(uneven))
    assert not (tmp_path / "frames" / "uneven").exists()


class Given(EpochBatches):
    """The same batches every epoch."""

    def __init__(self, places: list[NDArray[np.int64]]) -> None:
        super().__init__(0, 0, 1)
        self.places = places

    def __len__(self) -> int:
        return len(self.places)

    def batches(self, epoch: int) -> list[NDArray[np.int64]]:
        return self.places


def test_a_cache_on_a_device_gives_what_the_file_gives(folder: Folder) -> None:
    frames = [np.arange(6 * size, dtype=np.float32).reshape(size, 6) + 1 for size in (3, 1, 5)]
    waveforms, features = WaveformCache.open(folder), FeatureCache.open("frames", lambda: iter(frames))
    for cache, chosen in ((waveforms, [2, 0, 3]), (features, [1, 2, 1]), (features, [])):
        rows = np.array(chosen, np.int64)
        for expected, found in zip(
            cache.stack(rows), Resident(cache, torch.device("cpu")).stack(rows), strict=True
        ):
            assert torch.equal(expected, found)
            assert expected.dtype == found.dtype


def test_reading_ahead_moves_no_position_and_hides_no_error() -> None:
    class Failing:
        def stack(self, rows: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
            if rows[0] == 3:
                raise OSError("the disk is gone")
            return torch.zeros(1, 1), torch.ones(1, dtype=torch.int64)

    places = Given([np.array([row]) for row in range(20)])
    loader, threads = Loader(places, [Failing()], np.arange(20), {}), threading.active_count()
    batches = iter(loader)
    for row in range(3):
        assert int(next(batches).index) == row
        assert loader.state_dict() == {"epoch": 0, "position": row + 1}
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
    assert loader.state_dict() == {"epoch": 0, "position": 3}
    places.position = 10
    for batch in loader:
        assert int(batch.index) == 10
        break
    assert loader.state_dict() == {"epoch": 0, "position": 11}
    assert [int(batch.index) for batch in loader] == list(range(11, 20))
    assert loader.state_dict() == {"epoch": 1, "position": 0}
    assert threading.active_count() == threads  # else no copy of this process could be made


def test_a_batch_holds_the_rows_and_their_columns(folder: Folder) -> None:
    cache = WaveformCache.open(folder)
    columns = {"label": torch.arange(6) * 10, "target": torch.eye(6)}
    curve = FeatureCache.open("curve", lambda: (np.full((2, 1), row, np.float32) for row in range(6)))
    places = Given([np.array([0, 1, 2]), np.array([2])])
    batch, silent = Loader(places, [cache], np.array([2, 0, 3]), columns, {"guide": curve})
    batch = batch.to("cpu")
    assert len(batch) == 3
    assert batch.values.shape == (3, 16_000)
    assert batch.values.dtype == torch.float32
    assert batch.lengths.tolist() == [16_000, 8000, 0]
    np.testing.assert_array_equal(batch.values[1, :8000], cache[0])
    assert not batch.values[1, 8000:].any()
    assert batch.columns["label"].tolist() == [20, 0, 30]
    torch.testing.assert_close(batch.columns["target"], torch.eye(6)[[2, 0, 3]])
    assert batch.columns["guide"].tolist() == [[2, 2], [0, 0], [3, 3]]
    assert silent.values.shape == (1, 1)


@st.composite
def cases(draw: st.DrawFn) -> tuple[NDArray[np.int64], int, int, int]:
    world = draw(st.integers(1, 5))
    lengths = draw(st.lists(st.integers(0, 200_000), min_size=world, max_size=150))
    return np.array(lengths), draw(st.integers(1, 40)), world, draw(st.integers(0, 9))


@settings(max_examples=300, deadline=None)
@given(cases())
def test_every_utterance_comes_once_an_epoch(case: tuple[NDArray[np.int64], int, int, int]) -> None:
    lengths, size, world, epoch = case
    ranks = [LengthBuckets(lengths, size, seed=3, rank=rank, world=world) for rank in range(world)]
    shares = [buckets.batches(epoch) for buckets in ranks]
    seen = np.concatenate([np.concatenate(share) for share in shares])
    assert sorted(seen.tolist()) == list(range(len(lengths)))
    assert {len(share) for share in shares} == {len(ranks[0])}
    for together in zip(*shares, strict=True):
        sizes = [len(batch) for batch in together]
        assert max(sizes) - min(sizes) <= 1
        assert min(sizes) >= 1
        assert sum(sizes) < size * world + world


LENGTHS = np.random.default_rng(0).integers(8000, 80_000, 1000)


@pytest.fixture
def buckets() -> Iterator[LengthBuckets]:
    return LengthBuckets(LENGTHS, 32, seed=1)


def test_two_processes_share_what_one_would_take() -> None:
    one = LengthBuckets(LENGTHS, 32, seed=1).batches(4)
    halves = [LengthBuckets(LENGTHS, 16, seed=1, rank=rank, world=2).batches(4) for rank in (0, 1)]
    for whole, first, second in zip(one, *halves, strict=True):
        assert sorted(whole.tolist()) == sorted([*first.tolist(), *second.tolist()])


def test_batches_waste_little_on_padding_and_differ_between_epochs(buckets: LengthBuckets) -> None:
    def waste(batches: list[NDArray[np.int64]]) -> float:
        padded = sum(LENGTHS[batch].max() * len(batch) for batch in batches)
        return padded / LENGTHS.sum() - 1

    assert waste(buckets.batches(0)) < 0.15
    assert waste(np.split(np.random.default_rng(0).permutation(992), 31)) > 0.5
    sets = [{frozenset(batch.tolist()) for batch in buckets.batches(epoch)} for epoch in (0, 1)]
    assert not sets[0] & sets[1]
    assert [batch.tolist() for batch in buckets.batches(0)] == [
        batch.tolist() for batch in LengthBuckets(LENGTHS, 32, seed=1).batches(0)
    ]


def test_resuming_goes_on_where_it_stopped(buckets: LengthBuckets) -> None:
    straight = [batch.tolist() for _ in range(3) for batch in buckets]
    assert buckets.state_dict() == {"epoch": 3, "position": 0}
    for stop in (0, 1, 31, 32, 33, 63, 64, 95):
        first = LengthBuckets(LENGTHS, 32, seed=1)
        taken = []
        while len(taken) < stop:
            for batch in first:
                taken.append(batch.tolist())
                if len(taken) == stop:
                    break
        second = LengthBuckets(LENGTHS, 32, seed=1)
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        while len(taken) < len(straight):
            taken.extend(batch.tolist() for batch in second)
        assert taken == straight


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size 0"),
        ({"batch_size": 1, "rank": 2, "world": 2}, "rank 2 of 2"),
        ({"batch_size": 1, "world": 4}, "got 3 utterances for 4"),
    ],
)
def test_impossible_batches_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LengthBuckets(np.array([5, 6, 7]), **arguments)


@pytest.mark.corpora
def test_real_recordings_are_cached(corpora_root: Path) -> None:
    files = sorted((corpora_root / "emodb" / "wav").iterdir())[:20]
    manifest = Folder(files[0].parent, [file.name for file in files], [(None, None)] * 20)
    cache = WaveformCache.open(manifest)
    assert not cache.errors
    for row, file in enumerate(files):
        np.testing.assert_allclose(cache[row], np.clip(decode(file), -1, 1), atol=1 / 32767)
