"""Groups within speakers: columns, and the controls that are made up."""

import numpy as np
import pytest

from affetto.analysis.confounds import Measures
from affetto.corpora.manifest import Manifest
from affetto.errors import ConfigError, ManifestError
from affetto.material.recordings import Recordings
from affetto.pretraining.groups import speaker_groups


@pytest.fixture(scope="module")
def recordings(corpus: Manifest) -> Recordings:
    table = corpus.table.copy()
    table["cluster"] = ["0" if row % 3 else "1" for row in range(len(table))]
    table.loc[3, "cluster"] = None
    return Recordings(Manifest(table, corpus.roots))


def test_a_column_gives_its_groups_and_empty_cells_none(recordings: Recordings) -> None:
    found = speaker_groups(recordings, "cluster", 0)
    assert found.numbers[:5].tolist() == [1, 0, 0, -1, 0]
    assert not found.from_labels
    assert speaker_groups(recordings, "emotion", 0).from_labels


def test_random_groups_have_the_same_sizes_in_every_speaker(recordings: Recordings) -> None:
    real, dealt = (speaker_groups(recordings, name, 0).numbers for name in ("cluster", "random:cluster"))
    assert (real != dealt).any()
    for name in np.unique(recordings.speakers):
        own = recordings.speakers == name
        assert sorted(real[own]) == sorted(dealt[own])
    np.testing.assert_array_equal(dealt, speaker_groups(recordings, "random:cluster", 0).numbers)
    assert (dealt != speaker_groups(recordings, "random:cluster", 1).numbers).any()


def test_duration_and_loudness_cut_each_speaker_into_equal_shares_in_order(recordings: Recordings) -> None:
    waveforms = recordings.waveforms
    levels = np.array([np.mean(waveforms[row] ** 2) for row in range(len(waveforms))])
    for name, values in (("duration:5", waveforms.lengths), ("loudness:2", levels)):
        found = speaker_groups(recordings, name, 0)
        assert not found.from_labels
        for speaker in np.unique(recordings.speakers):
            own = recordings.speakers == speaker
            order = found.numbers[own][np.argsort(values[own], kind="stable")]
            assert (np.diff(order) >= 0).all()
            if name == "loudness:2":  # durations come twice, and equal ones stay together
                assert np.ptp(np.bincount(order)) == 0


def test_pitch_cuts_each_speaker_too(recordings: Recordings) -> None:
    pitch = recordings.vectors(Measures())[:, 2].numpy()
    found = speaker_groups(recordings, "pitch:2", 0).numbers
    for speaker in np.unique(recordings.speakers):
        own = (recordings.speakers == speaker) & np.isfinite(pitch)
        assert pitch[own & (found == 1)].min() >= pitch[own & (found == 0)].max()
    assert ((found == -1) == np.isnan(pitch)).all()


def test_purity_is_the_share_that_keeps_its_emotion(recordings: Recordings) -> None:
    truth = speaker_groups(recordings, "emotion", 0).numbers
    for share, low, high in ((0.0, 0, 0), (0.5, 0.3, 0.7), (1.0, 1, 1)):
        found = speaker_groups(recordings, f"purity:{share}", 0)
        assert found.from_labels
        assert low <= float(np.mean(found.numbers == truth)) <= high


@pytest.mark.parametrize("name", ["duration:0", "duration:2.5", "loudness:x", "purity:1.2", "purity:-1"])
def test_an_argument_that_does_not_fit_is_refused(recordings: Recordings, name: str) -> None:
    with pytest.raises(ConfigError, match="it must look like"):
        speaker_groups(recordings, name, 0)


def test_a_column_that_is_missing_or_empty_is_refused(recordings: Recordings) -> None:
    with pytest.raises(ManifestError, match=r"no column 'clutser'.*annotate clusters"):
        speaker_groups(recordings, "clutser", 0)
    with pytest.raises(ManifestError, match="'session' is empty in every row"):
        speaker_groups(recordings, "session", 0)
