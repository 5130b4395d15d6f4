"""Batched spherical k-means and its friends against scikit-learn, and at their edges."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_samples

from affetto.annotation.clusters import ClusterSettings, cluster
from affetto.config import build
from affetto.errors import ConfigError
from affetto.vectors import kmeans
from affetto.vectors.kmeans import spherical_kmeans
from affetto.vectors.spaces import centred, content_groups, without


def planted(
    sizes: tuple[int, ...], count: int = 4, dim: int = 16, noise: float = 0.3
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Vectors, groups and the clusters that were put into them."""
    generator = np.random.default_rng(5)
    vectors, groups, truth = [], [], []
    for group, size in enumerate(sizes):
        centres = generator.normal(size=(count, dim))
        own = np.arange(size) % count
        vectors.append(centres[own] + noise * generator.normal(size=(size, dim)))
        groups += [group] * size
        truth.append(own)
    return np.concatenate(vectors).astype(np.float32), np.array(groups), np.concatenate(truth)


def inertia(vectors: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Euclidean inertia of unit vectors about the means of their clusters."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return float(sum(((unit[labels == k] - unit[labels == k].mean(0)) ** 2).sum() for k in np.unique(labels)))


@pytest.mark.parametrize("dim", [16, 128])  # below and above the size where cosines are kept
def test_planted_clusters_are_found_in_ragged_groups(dim: int) -> None:
    vectors, groups, truth = planted((40, 61, 25, 90), dim=dim)
    found = spherical_kmeans(vectors, groups, [4]).labels
    for group in range(4):
        assert adjusted_rand_score(truth[groups == group], found[groups == group]) == 1.0


@pytest.mark.parametrize("dim", [16, 128])
def test_inertia_is_that_of_scikit_learn(dim: int) -> None:
    vectors, groups, _ = planted((60, 80, 45), dim=dim, noise=1.2)
    found = spherical_kmeans(vectors, groups, [6], restarts=10).labels
    for group in range(3):
        own = vectors[groups == group]
        unit = own / np.linalg.norm(own, axis=1, keepdims=True)
        reference = KMeans(6, n_init=10, random_state=0).fit(unit).inertia_
        assert inertia(own, found[groups == group]) < 1.02 * reference


@pytest.mark.parametrize("dim", [8, 64])
def test_every_utterance_ends_at_the_nearest_centre(dim: int) -> None:
    """The slow and obvious check, with centres from the labels in double precision."""
    vectors, groups, _ = planted((30, 50, 7), dim=dim, noise=1.5)
    found = spherical_kmeans(vectors, groups, [5], restarts=2).labels
    for group in range(3):
        own, labels = vectors[groups == group].astype(np.float64), found[groups == group]
        own /= np.linalg.norm(own, axis=1, keepdims=True)
        centres = np.stack([own[labels == number].sum(0) for number in range(5)])
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        np.testing.assert_array_equal((own @ centres.T).argmax(1), labels)


def test_more_restarts_are_never_looser() -> None:
    vectors, groups, _ = planted((90,), noise=1.5)
    few, many = (spherical_kmeans(vectors, groups, [6], restarts=count).labels for count in (1, 20))
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    tightness = [
        sum(np.linalg.norm(unit[labels == number].sum(0)) for number in range(6)) for labels in (few, many)
    ]
    assert tightness[0] <= tightness[1] + 1e-4


def test_a_group_does_not_depend_on_its_neighbours() -> None:
    vectors, groups, _ = planted((50, 70), noise=1.0)
    together = spherical_kmeans(vectors, groups, [5], seed=3).labels
    alone = spherical_kmeans(vectors[groups == 1], groups[groups == 1], [5], seed=3).labels
    np.testing.assert_array_equal(together[groups == 1], alone)
    again = spherical_kmeans(vectors, groups, [5], seed=3).labels
    np.testing.assert_array_equal(together, again)


def test_the_number_is_chosen_by_silhouette() -> None:
    vectors, groups, _ = planted((60, 60), count=3, noise=0.2)
    found = spherical_kmeans(vectors, groups, [2, 3, 4, 5]).labels
    assert [len(np.unique(found[groups == group])) for group in (0, 1)] == [3, 3]


def test_silhouettes_are_those_of_scikit_learn() -> None:
    vectors, groups, _ = planted((30, 44), noise=0.8)
    labels, silhouettes = spherical_kmeans(vectors, groups, [4])
    for group in (0, 1):
        own = groups == group
        expected = silhouette_samples(vectors[own], labels[own], metric="cosine")
        np.testing.assert_allclose(silhouettes[own], expected, atol=1e-4)


def test_identical_utterances_stay_together_and_no_cluster_is_lost_otherwise() -> None:
    vectors = np.ones((20, 8), np.float32)
    assert np.unique(spherical_kmeans(vectors, np.zeros(20, np.int64), [4]).labels).size == 1
    vectors, groups, _ = planted((12,), noise=2.0)
    assert np.unique(spherical_kmeans(vectors, groups, [10]).labels).size == 10


def test_duplicates_of_a_few_utterances_make_as_many_clusters_as_there_are_different_ones() -> None:
    vectors = np.repeat(np.eye(3, 8, dtype=np.float32), 7, axis=0)
    found = spherical_kmeans(vectors, np.zeros(21, np.int64), [5]).labels
    assert adjusted_rand_score(np.repeat(np.arange(3), 7), found) == 1.0


def test_an_empty_cluster_takes_the_utterance_farthest_from_its_centre() -> None:
    labels = torch.tensor([[[0, 0, 0, 1, 1]]])  # cluster 2 of 3 is empty
    members = (labels[:, :, None] == torch.arange(3)[:, None]).float()
    cosines = torch.full((1, 1, 3, 5), -1.0)
    cosines[0, 0, 0, :3] = torch.tensor([0.9, 0.2, 0.8])
    cosines[0, 0, 1, 3:] = torch.tensor([0.1, 0.7])
    refilled = kmeans._refill(members.clone(), cosines)
    assert refilled.argmax(2)[0, 0].tolist() == [0, 0, 0, 2, 1]
    near = torch.where(members > 0, torch.ones(()), torch.full((), -1.0))
    assert torch.equal(kmeans._refill(members.clone(), near), members)  # all lie on their centres


def test_identical_utterances_have_one_cluster() -> None:
    vectors = np.tile(np.arange(8, dtype=np.float32), (20, 1))
    for centre in (True, False):
        settings = ClusterSettings(count=4, centre=centre)
        found = cluster(vectors, np.zeros(20, np.int64), settings)
        assert (found.labels == 0).all()
        np.testing.assert_allclose(found.confidence, 0.5)


def test_a_cluster_of_one_has_the_confidence_of_an_edge() -> None:
    vectors, speakers, _ = planted((40,), count=2, noise=0.1)
    vectors[17] = -vectors.sum(0)
    found = cluster(vectors, speakers, ClusterSettings(count=3, centre=False))
    assert (found.labels == found.labels[17]).sum() == 1
    assert found.confidence[17] == 0.5
    assert np.delete(found.confidence, 17).min() > 0.8


def test_planted_clusters_are_found_in_every_speaker() -> None:
    vectors, speakers, truth = planted((60, 48), noise=0.2)
    found = cluster(vectors, speakers, ClusterSettings(count=4, restarts=3))
    for speaker in (0, 1):
        own = (speakers == speaker) & (found.labels >= 0)
        assert own.sum() > 0.8 * (speakers == speaker).sum()
        assert adjusted_rand_score(truth[own], found.labels[own]) > 0.95
    assert 0.7 < found.confidence[found.labels >= 0].mean() <= 1


def test_clusters_are_numbered_by_their_first_utterance() -> None:
    vectors, speakers, _ = planted((40, 40))
    for seed in (0, 1):
        labels = cluster(vectors, speakers, ClusterSettings(count=4, seed=seed)).labels
        for speaker in (0, 1):
            _, first = np.unique(labels[speakers == speaker], return_index=True)
            assert (np.diff(first) > 0).all()


def test_few_utterances_or_no_vector_give_no_cluster() -> None:
    vectors, speakers, _ = planted((40, 5, 1))
    vectors[3] = np.nan
    found = cluster(vectors, speakers, ClusterSettings(count=4, fewest=6))
    assert found.labels[3] == -1
    assert found.confidence[3] == 0
    assert (found.labels[speakers > 0] == -1).all()
    assert (np.delete(found.labels[speakers == 0], 3) >= 0).all()
    nobody = cluster(vectors, speakers, ClusterSettings(fewest=100))
    assert (nobody.labels == -1).all()


def test_what_is_said_is_taken_out() -> None:
    """Sentences move the vectors more than moods do; vectors of content tell which sentence it was."""
    generator = np.random.default_rng(1)
    speakers = np.repeat(np.arange(6), 60)
    mood, sentence = np.arange(360) % 3, (np.arange(360) // 3) % 4
    moods = generator.normal(size=(3, 24))
    sentences = 3 * generator.normal(size=(4, 24))
    codes = generator.normal(size=(4, 10))
    vectors = moods[mood] + sentences[sentence] + 0.3 * generator.normal(size=(360, 24))
    content = codes[sentence] + 0.05 * generator.normal(size=(360, 10))
    scores = []
    for said in (None, content_groups(content.astype(np.float32), speakers)):
        settings = ClusterSettings(count=3)
        labels = cluster(vectors.astype(np.float32), speakers, settings, said).labels
        own = [adjusted_rand_score(mood[speakers == s], labels[speakers == s]) for s in range(6)]
        scores.append(float(np.mean(own)))
    assert scores[0] < 0.3
    assert scores[1] > 0.9


def test_a_sentence_that_is_said_once_changes_little() -> None:
    vectors, speakers, _ = planted((40, 40))
    values = centred(vectors, speakers)
    rare = without(values, speakers, np.arange(80))
    assert np.abs(rare - values).max() < 0.1 * np.abs(values).max()
    kept = without(values, speakers, np.full(80, -1))
    np.testing.assert_allclose(kept, values, atol=1e-5)


def test_content_is_found_where_sentences_come_again() -> None:
    generator = np.random.default_rng(6)
    sentences, said = generator.normal(size=(8, 40)), np.tile(np.arange(8), 30)
    speakers = np.repeat(np.arange(6), 40)
    courses = sentences[said] + generator.normal(size=(6, 40))[speakers]
    courses += 0.4 * generator.normal(size=courses.shape)
    assert adjusted_rand_score(said, content_groups(courses.astype(np.float32), speakers)) == 1.0


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"count": 1}, "greater than or equal to 2"),
        ({"method": "hdbscan"}, "method: got 'hdbscan'; Input should be 'k-means'"),
        ({"drop": 0.2}, "unknown setting 'drop'; allowed: method, count"),
    ],
)
def test_settings_that_cannot_be_are_named(given: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        build(ClusterSettings, given)


def test_joined_columns_count_alike_whatever_their_scale_and_size() -> None:
    generator = np.random.default_rng(5)
    kinds, speakers = np.arange(60) % 3, np.repeat([0, 1], 30)
    telling = (generator.normal(0, 0.3, (60, 4)) + 3 * np.eye(4)[kinds]).astype(np.float32)
    other = (generator.normal(0, 0.3, (60, 40)) + 3 * np.eye(40)[kinds]).astype(np.float32)
    settings = ClusterSettings(count=3, middle=0)
    found = cluster([telling, other], speakers, settings).labels
    np.testing.assert_array_equal(found, cluster([100 * telling, other], speakers, settings).labels)
    assert all(
        len({*found[(speakers == speaker) & (kinds == kind)]}) == 1 for speaker in (0, 1) for kind in range(3)
    )
    other[5] = np.nan
    assert cluster([telling, other], speakers, settings).labels[5] == -1


def test_clusters_of_all_speakers_together_have_one_number() -> None:
    kinds, speakers = np.tile(np.arange(3), 20), np.repeat([0, 1], 30)
    vectors = (5 * np.eye(3)[kinds] + speakers[:, None]).astype(np.float32)
    vectors += np.random.default_rng(6).normal(0, 0.1, vectors.shape).astype(np.float32)
    labels = cluster(vectors[::-1], speakers[::-1], ClusterSettings(count=3, together=True)).labels[::-1]
    assert len({*zip(labels.tolist(), kinds.tolist(), strict=True)}) == 3
