"""The scikit-learn estimator: its contract, its scores across speakers, and the recogniser that it saves."""

from pathlib import Path

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.exceptions import SkipTestWarning
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.utils import estimator_checks

from affetto import EmotionEstimator, Manifest, Recogniser
from affetto.errors import AudioError, ConfigError

# The others fit arrays of numbers; the input of this estimator is paths.
CHECKS = [
    *["get_params_invariance", "set_params", "no_attributes_set_in_init", "estimator_repr", "mixin_order"],
    *["parameters_default_constructible", "valid_tag_types"],
    *["estimator_cloneable", "estimator_tags_renamed"],
]


@pytest.fixture(scope="module")
def rows(corpus: Manifest) -> tuple[list[Path], list[str], list[str]]:
    return corpus.paths, corpus.table["emotion"].tolist(), corpus.table["speaker"].tolist()


@pytest.fixture(scope="module")
def fitted(rows: tuple[list[Path], list[str], list[str]]) -> EmotionEstimator:
    return EmotionEstimator("functionals").fit(*rows)


def test_it_scores_in_cross_validation_by_speaker(rows: tuple[list[Path], list[str], list[str]]) -> None:
    paths, labels, speakers = rows
    estimator = EmotionEstimator("functionals")
    plain = cross_val_score(estimator, paths, labels, groups=speakers, cv=GroupKFold(2))
    with sklearn.config_context(enable_metadata_routing=True):
        routed = cross_val_score(
            EmotionEstimator("functionals").set_fit_request(groups=True),
            paths,
            labels,
            cv=GroupKFold(2),
            params={"groups": speakers},
        )
    assert len(plain) == len(routed) == 2
    assert min(plain.mean(), routed.mean()) > 0.3  # chance is 0.2


def test_answers_and_the_recogniser_that_is_saved(
    fitted: EmotionEstimator, rows: tuple[list[Path], list[str], list[str]], tmp_path: Path
) -> None:
    paths, labels, speakers = rows
    shares = fitted.predict_proba(paths[:7])
    assert fitted.classes_.tolist() == sorted(set(labels))
    assert np.allclose(shares.sum(1), 1)
    assert fitted.predict(paths[:7]).tolist() == fitted.classes_[shares.argmax(1)].tolist()
    assert fitted.score(paths, labels) > 0.6
    fitted.save(tmp_path / "recogniser")
    saved = Recogniser.from_pretrained(tmp_path / "recogniser", any_sound=True)
    for path, row in zip(paths[:7], shares, strict=True):
        found = {each["label"]: each["score"] for each in saved.from_file(path)}
        assert [found[label] for label in fitted.classes_] == pytest.approx(row.tolist(), abs=1e-5)
    seen = saved.config["speakers_seen"]
    assert sorted([*seen["with_labels"], *seen["chosen_on"]]) == sorted(set(speakers))
    assert not saved.speaker_dependent


def test_without_groups_it_is_marked_as_speaker_dependent(
    rows: tuple[list[Path], list[str], list[str]],
) -> None:
    numbers = np.unique(rows[1], return_inverse=True)[1]
    made = EmotionEstimator("functionals").fit(np.array([str(path) for path in rows[0]]), numbers)
    assert made.config_["speaker_dependent"]
    assert made.classes_.tolist() == [0, 1, 2, 3, 4]
    assert made.predict(rows[0][:3]).dtype == numbers.dtype


def test_it_is_cloned_without_what_it_learned(fitted: EmotionEstimator) -> None:
    copy = clone(fitted.set_params(dev_share=0.25))
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "classes_")
    fitted.set_params(dev_share=0.2)


@pytest.mark.parametrize("name", CHECKS)
def test_checks_of_scikit_learn(name: str) -> None:
    getattr(estimator_checks, f"check_{name}")("EmotionEstimator", EmotionEstimator("functionals"))


def test_scikit_learn_itself_chooses_no_other_check() -> None:
    """Its tags say that the input is paths, and then it calls what needs no input."""
    with pytest.warns(SkipTestWarning, match="requires input"):
        results = estimator_checks.check_estimator(EmotionEstimator("functionals"))
    assert {each["status"] for each in results} == {"passed"}


def test_bad_input(
    fitted: EmotionEstimator, rows: tuple[list[Path], list[str], list[str]], tmp_path: Path
) -> None:
    paths, labels, speakers = rows
    with pytest.raises(ValueError, match="60 paths and 59 labels"):
        EmotionEstimator("functionals").fit(paths, labels[1:])
    with pytest.raises(ValueError, match="60 paths and 59 groups"):
        EmotionEstimator("functionals").fit(paths, labels, speakers[1:])
    with pytest.raises(ValueError, match="one class, anger"):
        EmotionEstimator("functionals").fit(paths, ["anger"] * 60)
    with pytest.raises(ValueError, match="one group"):
        EmotionEstimator("functionals").fit(paths, labels, ["f01"] * 60)
    with pytest.raises(ValueError, match="paths of recordings"):
        fitted.predict(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="no recordings"):
        fitted.predict([])
    with pytest.raises(AudioError, match=r"missing\.wav"):
        fitted.predict([tmp_path / "missing.wav"])
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(AudioError, match=r"text\.wav"):
        fitted.predict([tmp_path / "text.wav"])
    with pytest.raises(ConfigError, match="unknown encoder 'nothing'"):
        EmotionEstimator("nothing").fit(paths, labels)
    with pytest.raises(ConfigError, match="fixed vectors"):
        EmotionEstimator("cnn").fit(paths, labels)
