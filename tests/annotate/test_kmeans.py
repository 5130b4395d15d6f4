"""Batched spherical k-means and its friends against scikit-learn, and at their edges."""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_samples

from affetto.annotate.clusters import ClusterSettings, cluster
from affetto.annotate.kmeans import cosine_silhouettes, spherical_kmeans
from affetto.annotate.spaces import content_groups


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


def test_planted_clusters_are_found_in_ragged_groups() -> None:
    vectors, groups, truth = planted((40, 61, 25, 90))
    found = spherical_kmeans(vectors, groups, [4]).labels
    for group in range(4):
        assert adjusted_rand_score(truth[groups == group], found[groups == group]) == 1.0


def test_inertia_is_that_of_scikit_learn() -> None:
    vectors, groups, _ = planted((60, 80, 45), noise=1.2)
    found = spherical_kmeans(vectors, groups, [6], restarts=10).labels
    for group in range(3):
        own = vectors[groups == group]
        unit = own / np.linalg.norm(own, axis=1, keepdims=True)
        reference = KMeans(6, n_init=10, random_state=0).fit(unit).inertia_
        assert inertia(own, found[groups == group]) < 1.02 * reference


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
    labels = spherical_kmeans(vectors, groups, [4]).labels
    found = cosine_silhouettes(vectors, groups, labels)
    for group in (0, 1):
        own = groups == group
        expected = silhouette_samples(vectors[own], labels[own], metric="cosine")
        np.testing.assert_allclose(found[own], expected, atol=1e-4)


def test_identical_utterances_stay_together_and_no_cluster_is_lost_otherwise() -> None:
    vectors = np.ones((20, 8), np.float32)
    assert np.unique(spherical_kmeans(vectors, np.zeros(20, np.int64), [4]).labels).size == 1
    vectors, groups, _ = planted((12,), noise=2.0)
    assert np.unique(spherical_kmeans(vectors, groups, [10]).labels).size == 10


@pytest.mark.parametrize("method", ["k-means", "agglomerative", "gaussian-mixture", "hdbscan"])
def test_every_method_finds_what_was_planted(method: str) -> None:
    vectors, speakers, truth = planted((60, 48), noise=0.2)
    settings = ClusterSettings(method=method, counts=(3, 4, 5), restarts=3)
    found = cluster(vectors, speakers, settings)
    for speaker in (0, 1):
        own = (speakers == speaker) & (found.labels >= 0)
        assert own.sum() > 0.8 * (speakers == speaker).sum()
        assert adjusted_rand_score(truth[own], found.labels[own]) > 0.95
    assert 0.7 < found.confidence[found.labels >= 0].mean() <= 1


def test_clusters_are_numbered_by_their_first_utterance() -> None:
    vectors, speakers, _ = planted((40, 40))
    for seed in (0, 1):
        labels = cluster(vectors, speakers, ClusterSettings(counts=(4,), seed=seed)).labels
        for speaker in (0, 1):
            _, first = np.unique(labels[speakers == speaker], return_index=True)
            assert (np.diff(first) > 0).all()


def test_few_utterances_or_no_vector_give_no_cluster() -> None:
    vectors, speakers, _ = planted((40, 5, 1))
    vectors[3] = np.nan
    found = cluster(vectors, speakers, ClusterSettings(counts=(4,), fewest=6))
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
        settings = ClusterSettings(counts=(3,))
        labels = cluster(vectors.astype(np.float32), speakers, settings, said).labels
        own = [adjusted_rand_score(mood[speakers == s], labels[speakers == s]) for s in range(6)]
        scores.append(float(np.mean(own)))
    assert scores[0] < 0.3
    assert scores[1] > 0.9
