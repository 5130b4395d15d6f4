import pytest

from affetto.corpora.labels import EMOTIONS, LABEL_MAPS, apply_map, canonical
from affetto.errors import ManifestError


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("ANG", "anger"),
        ("Happy", "happiness"),
        (" fearful ", "fear"),
        ("boredem", "boredom"),
        ("neutral state", "neutral"),
    ],
)
def test_words_become_names(word: str, name: str) -> None:
    assert canonical(word) == name


def test_a_name_stays_itself() -> None:
    assert [canonical(name) for name in EMOTIONS] == list(EMOTIONS)


def test_extra_words_come_first() -> None:
    assert canonical("T", {"T": "sadness"}) == "sadness"
    assert canonical("angry", {"angry": "frustration"}) == "frustration"


def test_an_unknown_word_gets_the_nearest_name() -> None:
    with pytest.raises(ManifestError, match=r"unknown emotion 'sadnes'.*did you mean 'sadness'.*--label"):
        canonical("sadnes")


def test_maps_use_canonical_names_and_may_be_applied_twice() -> None:
    for mapping in LABEL_MAPS.values():
        assert {canonical(name) for name in mapping} == set(mapping)
        assert all(mapping[name] == name for name in mapping.values())


def test_excitement_counts_as_happiness_in_the_four_classes_of_iemocap() -> None:
    assert apply_map("excitement", "iemocap-4") == "happiness"
    assert apply_map("frustration", "iemocap-4") is None
    assert apply_map(None, "iemocap-4") is None
    with pytest.raises(ManifestError, match="did you mean 'iemocap-4'"):
        apply_map("anger", "iemocap4")
