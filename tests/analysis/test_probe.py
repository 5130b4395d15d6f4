"""The probe never meets a speaker twice, and says nothing where it could not be fitted."""

import numpy as np
import pytest
from numpy.typing import NDArray

from affetto.analysis.agreement import probe
from affetto.vectors.spaces import centred


def spoken(offset: float) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Vectors of eight speakers and three classes, each speaker moved away by an offset."""
    generator = np.random.default_rng(0)
    groups, labels = np.repeat(np.arange(8), 30), np.tile(np.arange(3), 80)
    vectors = generator.normal(size=(240, 5)) + 3 * np.eye(5)[labels]
    return vectors + offset * generator.normal(size=(8, 5))[groups], labels, groups


def test_folds_are_of_speakers_and_classes_are_read() -> None:
    vectors, labels, groups = spoken(0.0)
    predicted, fold = probe(vectors, labels, groups, folds=4)
    assert sorted(set(fold.tolist())) == [0, 1, 2, 3]
    for speaker in range(8):
        assert len(set(fold[groups == speaker].tolist())) == 1
    assert (predicted == labels).mean() > 0.9
    again, _ = probe(vectors, labels, groups, folds=4)
    np.testing.assert_array_equal(predicted, again)


def test_permuted_labels_cannot_be_read() -> None:
    vectors, labels, groups = spoken(0.0)
    permuted = np.random.default_rng(1).permutation(labels)
    predicted, _ = probe(vectors, permuted, groups)
    assert abs((predicted == permuted).mean() - 1 / 3) < 0.12


def test_centring_takes_the_speaker_away() -> None:
    vectors, labels, groups = spoken(20.0)
    moved = centred(vectors, groups)
    for speaker in range(8):
        np.testing.assert_allclose(moved[groups == speaker].mean(axis=0), 0, atol=1e-5)
    raw, _ = probe(vectors, labels, groups)
    better, _ = probe(moved, labels, groups)
    assert (better == labels).mean() > 0.9 > (raw == labels).mean() + 0.2


def test_unlabelled_utterances_and_few_speakers() -> None:
    vectors, labels, groups = spoken(0.0)
    labels[::7] = -1
    predicted, fold = probe(vectors, labels, groups, folds=50)
    np.testing.assert_array_equal(predicted < 0, labels < 0)
    assert fold.max() == 7


@pytest.mark.parametrize("case", ["one speaker", "one class", "no label", "a class a speaker"])
def test_where_nothing_can_be_fitted(case: str) -> None:
    vectors, labels, groups = spoken(0.0)
    match case:
        case "one speaker":
            groups[:] = 0
        case "one class":
            labels[:] = 0
        case "no label":
            labels[:] = -1
        case _:
            labels, groups = np.minimum(groups, 1), np.minimum(groups, 1)
    predicted, fold = probe(vectors, labels, groups)
    assert (predicted == -1).all()
    assert (fold == -1).all()
