"""Agreement is scikit-learn's; chance is what permutations give; without data there is no value."""

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn import metrics
from sklearn.metrics.pairwise import cosine_distances

from affetto.analysis import agreement
from affetto.analysis.agreement import (
    _permutations,
    cluster_partners,
    measure_agreement,
    measure_separation,
    quantile_bins,
    silhouettes,
)

ORACLES = {
    "ami": metrics.adjusted_mutual_info_score,
    "nmi": metrics.normalized_mutual_info_score,
    "v_measure": metrics.v_measure_score,
    "homogeneity": metrics.homogeneity_score,
    "completeness": metrics.completeness_score,
    "ari": metrics.adjusted_rand_score,
}


def purity(labels: NDArray[np.int64], clusters: NDArray[np.int64]) -> float:
    groups = (labels[clusters == cluster].tolist() for cluster in set(clusters.tolist()))
    return sum(max(Counter(group).values()) for group in groups) / len(labels)


@pytest.mark.parametrize("draw", range(4))
def test_every_measure_equals_scikit_learn(draw: int) -> None:
    generator = np.random.default_rng(draw)
    for _ in range(12):
        count = int(generator.integers(3, 50))
        clusters = generator.integers(0, generator.integers(1, 9), count)
        labels = generator.integers(0, generator.integers(2, count + 3), count)
        labels[:2] = 0, 1
        found = measure_agreement(clusters, labels, np.zeros(count, np.int64), permutations=2)
        for name, oracle in ORACLES.items():
            assert found.values[name][0] == pytest.approx(oracle(labels, clusters), abs=1e-9), name
        assert found.values["purity"][0] == pytest.approx(purity(labels, clusters))


def test_a_permutation_is_scored_like_any_labelling() -> None:
    generator = np.random.default_rng(0)
    clusters, labels = generator.integers(0, 4, 60), generator.integers(0, 5, 60)
    permuted = _permutations(labels, np.zeros(60, np.int64), 12, generator)
    scores = agreement.agreement_of(agreement.contingency(clusters, permuted))
    for name, oracle in {**ORACLES, "purity": purity}.items():
        np.testing.assert_allclose(scores[name], [oracle(each, clusters) for each in permuted], atol=1e-9)


def test_speakers_are_measured_apart() -> None:
    generator = np.random.default_rng(1)
    groups = generator.integers(0, 5, 300)
    clusters, labels = generator.integers(0, 4, 300), generator.integers(0, 3, 300)
    found = measure_agreement(clusters, labels, groups, permutations=5)
    for speaker in range(5):
        own = groups == speaker
        wanted = metrics.adjusted_mutual_info_score(labels[own], clusters[own])
        assert found.values["ami"][speaker] == pytest.approx(wanted, abs=1e-9)


def test_permuted_labels_agree_by_chance_only() -> None:
    generator = np.random.default_rng(2)
    groups = np.repeat(np.arange(30), 60)
    clusters, labels = generator.integers(0, 6, 1800), generator.integers(0, 6, 1800)
    found = measure_agreement(clusters, labels, groups, permutations=100)
    assert abs(float(found.null["ami"].mean())) < 0.003
    assert abs(float(np.mean(found.chance["ari"]))) < 0.003
    assert abs(float(np.mean(found.values["nmi"] - found.chance["nmi"]))) < 0.02
    assert found.overall_p("ami") > 0.05
    assert 0.01 < np.mean(found.p["ami"] <= 0.2) < 0.5


def test_what_is_followed_is_beyond_every_deal() -> None:
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 4, 200)
    found = measure_agreement((labels + 1) % 4, labels, np.repeat([0, 1], 100), permutations=99)
    assert found.values["ami"] == pytest.approx(1)
    assert found.overall_p("ami") == pytest.approx(0.01)
    assert found.p["purity"] == pytest.approx(0.01)


def test_what_is_not_known_is_left_out() -> None:
    generator = np.random.default_rng(4)
    clusters, labels, groups = (generator.integers(0, 4, 200) for _ in range(3))
    clusters[:20], labels[15:40] = -1, -1
    whole = measure_agreement(clusters, labels, groups, permutations=3)
    part = measure_agreement(clusters[40:], labels[40:], groups[40:], permutations=3)
    for name in agreement.MEASURES:
        np.testing.assert_array_equal(whole.values[name], part.values[name])


def test_nothing_to_follow_and_nothing_that_follows() -> None:
    groups = np.repeat([0, 1, 2], 6)
    labels = np.array([0] * 6 + [0, 1] * 3 + [-1] * 6)
    found = measure_agreement(np.zeros(18, np.int64), labels, groups, permutations=4)
    assert np.isnan(found.values["ami"]).tolist() == [True, False, True]
    for name, value in {
        "ami": 0,
        "nmi": 0,
        "ari": 0,
        "homogeneity": 0,
        "completeness": 1,
        "purity": 0.5,
    }.items():
        assert found.values[name][1] == value


def test_what_is_held_fixed_explains_what_comes_of_it() -> None:
    generator = np.random.default_rng(5)
    groups = np.repeat(np.arange(40), 90)
    channel = generator.integers(0, 3, len(groups))
    emotion = np.where(generator.random(len(groups)) < 0.6, channel, generator.integers(0, 3, len(groups)))
    of_channel = measure_agreement(channel, emotion, groups, permutations=100)
    assert np.mean(of_channel.values["ami"]) > 0.15
    left = measure_agreement(channel, emotion, groups, within=channel, permutations=100)
    assert np.mean(left.values["ami"] - left.chance["ami"]) == pytest.approx(0, abs=1e-9)
    noisy = np.where(generator.random(len(groups)) < 0.7, channel, generator.integers(0, 3, len(groups)))
    left = measure_agreement(noisy, emotion, groups, within=channel, permutations=100)
    assert abs(np.mean(left.values["ami"] - left.chance["ami"])) < 0.01
    of_emotion = measure_agreement(emotion, emotion, groups, within=channel, permutations=100)
    assert np.mean(of_emotion.values["ami"] - of_emotion.chance["ami"]) > 0.5


def test_labels_that_another_thing_settles_say_nothing() -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    clusters, groups = np.array([0, 1, 0, 1, 0, 1]), np.zeros(6, np.int64)
    found = measure_agreement(clusters, labels, groups, within=labels, permutations=5)
    assert np.isnan(found.values["ami"]).all()
    assert np.isnan(
        measure_agreement(clusters, labels, groups, within=np.arange(6), permutations=5).values["ami"]
    ).all()


def test_deals_stay_within_their_stratum() -> None:
    generator = np.random.default_rng(6)
    labels, strata = generator.integers(0, 5, 40), generator.integers(0, 4, 40)
    permuted = _permutations(labels, strata, 200, generator)
    for stratum in range(4):
        own = strata == stratum
        assert (np.sort(permuted[:, own], axis=1) == np.sort(labels[own])).all()
    # every place gets every label of its stratum as often as the stratum has it
    shares = (permuted[:, strata == 0, None] == np.arange(5)).mean(axis=0)
    wanted = (labels[strata == 0, None] == np.arange(5)).mean(axis=0)
    assert np.abs(shares - wanted).max() < 0.2


def naive_silhouette(distances: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    found = []
    for row, label in enumerate(labels):
        own = (labels == label) & (np.arange(len(labels)) != row)
        if not own.any():
            found.append(0.0)
            continue
        inside = distances[row, own].mean()
        outside = min(distances[row, labels == other].mean() for other in set(labels) if other != label)
        found.append((outside - inside) / max(inside, outside))
    return float(np.mean(found))


def test_silhouettes_equal_scikit_learn_and_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(7)
    distances = cosine_distances(generator.normal(size=(30, 6)))
    labels = _permutations(
        np.array([0] * 12 + [1] * 10 + [2] * 7 + [3]), np.zeros(30, np.int64), 9, generator
    )
    monkeypatch.setattr(agreement, "_AT_ONCE", 400)
    found = silhouettes(distances, labels)
    np.testing.assert_allclose(found, [naive_silhouette(distances, each) for each in labels])
    np.testing.assert_allclose(
        found, [metrics.silhouette_score(distances, each, metric="precomputed") for each in labels]
    )


def test_equal_vectors_have_no_silhouette_to_speak_of() -> None:
    found = measure_separation(np.ones((10, 3)), np.arange(10) % 2, np.zeros(10, np.int64), permutations=3)
    assert found.values["silhouette"] == pytest.approx(0)


def test_separation_of_speakers(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(8)
    labels = generator.integers(0, 3, 180)
    vectors = np.eye(3)[labels] + 0.1 * generator.normal(size=(180, 3))
    groups = np.repeat([0, 1, 2], 60)
    labels[120:] = 0
    found = measure_separation(vectors, labels, groups, permutations=50)
    assert (found.values["silhouette"][:2] > 0.8).all()
    assert np.isnan(found.values["silhouette"][2])
    assert (found.chance["silhouette"][:2] < 0.02).all()
    assert found.overall_p("silhouette") == pytest.approx(1 / 51)
    monkeypatch.setattr(agreement, "MOST", 20)
    fewer = measure_separation(vectors, labels, groups, permutations=5)
    assert fewer.values["silhouette"][0] == pytest.approx(found.values["silhouette"][0], abs=0.1)
    assert fewer.values["silhouette"][0] != found.values["silhouette"][0]


def test_bins_are_filled_equally_speaker_by_speaker() -> None:
    generator = np.random.default_rng(9)
    groups = np.repeat([0, 1], 60)
    values = generator.normal(size=120) + 100 * groups
    values[5] = np.nan
    bins = quantile_bins(values, groups, 4)
    assert bins[5] == -1
    assert np.bincount(bins[groups == 1]).tolist() == [15, 15, 15, 15]
    assert sorted(np.bincount(bins[(groups == 0) & (bins >= 0)]).tolist()) == [14, 15, 15, 15]
    order = np.argsort(values[60:])
    assert (np.diff(bins[60:][order]) >= 0).all()
    equal = quantile_bins(np.array([1.0, 1, 1, 1, 2, 3]), np.zeros(6, np.int64), 3)
    assert len(set(equal[:4].tolist())) == 1


def test_partners_equal_a_loop_over_pairs() -> None:
    generator = np.random.default_rng(10)
    clusters, labels, groups = (generator.integers(-1, 4, 150) for _ in range(3))
    groups = np.abs(groups)
    found = cluster_partners(clusters, labels, groups)
    for label in range(4):
        together, others = [], []
        for one in range(150):
            for other in range(150):
                known = min(clusters[one], clusters[other], labels[other]) >= 0
                if one != other and groups[one] == groups[other] and labels[one] == label and known:
                    others.append(labels[other] == label)
                    if clusters[one] == clusters[other]:
                        together.append(labels[other] == label)
        assert found.share[label] == pytest.approx(np.mean(together))
        assert found.chance[label] == pytest.approx(np.mean(others))
    alone = cluster_partners(np.arange(3), np.array([0, 0, 1]), np.zeros(3, np.int64))
    assert np.isnan(alone.share).all()
    assert alone.chance.tolist() == [0.5, 0.0]
