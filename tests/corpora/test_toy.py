from pathlib import Path

import numpy as np
import pytest

from affetto.audio import decode, read_info
from affetto.corpora import scan, toy
from affetto.corpora.manifest import Manifest
from affetto.errors import ManifestError


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return toy.write(tmp_path_factory.mktemp("toy"), speakers=4, sentences=2, takes=2, seed=5)


def test_it_has_everything_that_a_corpus_has(corpus: Manifest) -> None:
    assert len(corpus) == 4 * 2 * 5 * 2
    assert corpus.speakers == ["f01", "f02", "m01", "m02"]
    assert corpus.labels == sorted(toy.MOODS)
    assert set(corpus.table["gender"]) == {"female", "male"}
    assert corpus.table["text"].nunique() == 2
    assert corpus.table["session"].isna().all()
    assert corpus.problems() == []
    info = read_info(corpus.paths[0])
    assert (info.rate, info.channels) == (16000, 1)
    assert 0.6 < info.duration_seconds < 3


def test_the_same_seed_gives_the_same_samples_and_another_does_not(corpus: Manifest, tmp_path: Path) -> None:
    again = toy.write(tmp_path / "same", speakers=1, sentences=1, takes=1, seed=5)
    other = toy.write(tmp_path / "other", speakers=1, sentences=1, takes=1, seed=6)
    first = corpus.where(again.keys)
    for one, two, three in zip(first.paths, again.paths, other.paths, strict=True):
        np.testing.assert_array_equal(decode(one), decode(two))
        assert decode(one).shape != decode(three).shape or not np.array_equal(decode(one), decode(three))


def test_scan_makes_it_once_and_then_reads_it(tmp_path: Path) -> None:
    made = scan("toy", tmp_path / "new", speakers=1, sentences=1, takes=1)
    path = made.paths[0]
    before = path.stat().st_mtime_ns
    again = scan("toy", tmp_path / "new")
    assert again.sha256 == made.sha256
    assert path.stat().st_mtime_ns == before


def test_moods_sound_as_they_are_described() -> None:
    chance = np.random.default_rng(0)
    who = toy._speaker(1, chance)
    who = toy.Speaker(
        who.name, who.gender, 1.0, toy._NOTHING._replace(pitch=118), dict.fromkeys(toy.MOODS, toy._NOTHING)
    )
    said = {
        mood: [toy.speak(who, "nalilomunela", mood, np.random.default_rng([1, k])) for k in range(12)]
        for mood in toy.MOODS
    }
    level = {mood: np.mean([np.sqrt(np.mean(take**2)) for take in takes]) for mood, takes in said.items()}
    length = {mood: np.mean([len(take) for take in takes]) for mood, takes in said.items()}
    assert level["anger"] > level["neutral"] > level["sadness"]
    assert length["sadness"] > length["neutral"] > length["fear"]
    assert _steepness(said["neutral"]) > _steepness(said["anger"]) + 1


def _steepness(takes: list[np.ndarray]) -> float:
    """Energy below 1 kHz over energy above, in dB."""
    power = [np.abs(np.fft.rfft(take, 65536)) ** 2 for take in takes]
    edge = 65536 // 16
    return float(np.mean([10 * np.log10(p[:edge].sum() / p[edge:].sum()) for p in power]))


def test_it_is_neither_hopeless_nor_easy_for_a_linear_model_on_unseen_speakers(tmp_path: Path) -> None:
    from scipy.signal import stft
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from affetto.protocols import load_protocol

    manifest = toy.write(tmp_path, speakers=10, sentences=2, takes=1)
    bands = np.linspace(0, 200, 33).astype(int)

    def describe(path: Path) -> np.ndarray:
        _, _, spectrum = stft(decode(path), 16000, nperseg=400, noverlap=240, boundary=None)
        energy = np.log(np.add.reduceat(np.abs(spectrum) ** 2, bands[:-1], axis=0) + 1e-10)
        return np.concatenate([energy.mean(1), energy.std(1)])

    values = dict(zip(manifest.keys, map(describe, manifest.paths), strict=True))
    truth = dict(zip(manifest.keys, manifest.table["emotion"], strict=True))
    right = []
    for fold in load_protocol("speaker-kfold").folds(manifest):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
        model.fit(
            [values[key] for key in fold.train + fold.dev], [truth[key] for key in fold.train + fold.dev]
        )
        guessed = model.predict([values[key] for key in fold.test])
        right += [truth[key] == guess for key, guess in zip(fold.test, guessed, strict=True)]
    assert 0.3 < np.mean(right) < 0.75  # chance is 0.2


def test_numbers_out_of_range_and_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="got 9 sentences; 1 to 8"):
        toy.write(tmp_path, sentences=9)
    toy.write(tmp_path, speakers=1, sentences=1, takes=1)
    (tmp_path / "f01" / "f01_s01_anger_t01.flac").rename(tmp_path / "f01" / "hello.flac")
    assert [file for file, _ in scan("toy", tmp_path).errors] == ["f01/hello.flac"]
