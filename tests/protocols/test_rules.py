from collections import Counter

import pandas as pd
import pytest

from affetto.corpora.manifest import Manifest
from affetto.errors import ProtocolError
from affetto.protocols import load_protocol
from affetto.protocols.protocol import Rule


def manifest(speakers: int = 10, corpora: tuple[str, ...] = ("c",), emotions: str = "anger fear") -> Manifest:
    rows = [
        (corpus, f"{number:02d}", emotion, "female" if number % 2 else "male", take)
        for corpus in corpora
        for number in range(speakers)
        for emotion in emotions.split()
        for take in range(5)
    ]
    table = pd.DataFrame(rows, columns=["corpus", "speaker", "emotion", "gender", "take"])
    keys = table["corpus"] + table["speaker"] + table["emotion"] + table["take"].astype(str)
    return Manifest(table.assign(key=keys, file=keys + ".wav"))


def test_speaker_folds_are_even_in_gender_and_do_not_depend_on_row_order() -> None:
    made = manifest()
    protocol = load_protocol("speaker-kfold")
    folds = protocol.folds(made)
    gender = dict(zip(made.keys, made.table["gender"], strict=True))
    assert [Counter(gender[key] for key in fold.test) for fold in folds] == [{"female": 10, "male": 10}] * 5
    assert [set(fold.dev) for fold in folds] == [set(folds[(k + 1) % 5].test) for k in range(5)]
    shuffled = Manifest(made.table.sample(frac=1, random_state=1))
    assert [set(fold.test) for fold in protocol.folds(shuffled)] == [set(fold.test) for fold in folds]


def test_another_seed_deals_otherwise() -> None:
    protocol = load_protocol("speaker-kfold")
    other = protocol.model_copy(update={"rule": Rule(kind="speaker-kfold", seed=1)})
    assert protocol.folds(manifest())[0].test != other.folds(manifest())[0].test


def test_each_speaker_is_tested_once() -> None:
    folds = load_protocol("leave-one-speaker-out").folds(manifest(4))
    assert [fold.number for fold in folds] == [1, 2, 3, 4]
    assert [{key[1:3] for key in fold.test} for fold in folds] == [{"00"}, {"01"}, {"02"}, {"03"}]
    assert [{key[1:3] for key in fold.dev} for fold in folds] == [{"01"}, {"02"}, {"03"}, {"00"}]


def test_each_corpus_is_tested_once_on_the_classes_that_all_have() -> None:
    one = manifest(5, ("a",), "anger fear boredom").table
    other = manifest(5, ("b",), "anger fear calm").table
    protocol = load_protocol("leave-one-corpus-out")
    both = Manifest(pd.concat([one, other]))
    assert protocol.select(both).labels == ["anger", "fear"]
    folds = protocol.folds(both)
    assert [{key[0] for key in fold.test} for fold in folds] == [{"a"}, {"b"}]
    assert [{key[0] for key in fold.train} for fold in folds] == [{"b"}, {"a"}]
    assert [len({key[:3] for key in fold.dev}) for fold in folds] == [1, 1]


def test_random_by_clip_shares_speakers_and_says_so() -> None:
    protocol = load_protocol("random-by-clip")
    made = manifest()
    folds = protocol.folds(made)
    assert protocol.speaker_dependent
    assert {key[1:3] for key in folds[0].train} & {key[1:3] for key in folds[0].test}
    emotion = dict(zip(made.keys, made.table["emotion"], strict=True))
    assert [Counter(emotion[key] for key in fold.test) for fold in folds] == [{"anger": 10, "fear": 10}] * 5


@pytest.mark.parametrize(
    ("name", "made", "message"),
    [
        ("speaker-kfold", manifest(4), "needs at least 5 speakers; this manifest has 4"),
        ("leave-one-speaker-out", manifest(2), "needs at least 3 speakers; this manifest has 2"),
        ("leave-one-corpus-out", manifest(4), "needs at least 2 corpora; this manifest has c"),
        ("leave-one-corpus-out", manifest(1, ("a", "b")), "fold 1 has nobody in train"),
    ],
)
def test_too_few_speakers_or_corpora(name: str, made: Manifest, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        load_protocol(name).folds(made)
