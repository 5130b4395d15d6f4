from collections import Counter

import pandas as pd
import pytest

from affetto.corpora.manifest import Manifest
from affetto.errors import ProtocolError
from affetto.protocols import load_protocol
from affetto.protocols.folds import Rule


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


def test_all_speakers_are_train_or_dev() -> None:
    (fold,) = load_protocol("all-speakers").folds(manifest(20, ("a", "")))
    assert fold.test == ()
    speakers = {key.split("anger")[0].split("fear")[0] for key in fold.dev}
    assert len(speakers) == 8  # a fifth of the 20 of each corpus
    assert len(fold.train) + len(fold.dev) == len(manifest(20, ("a", "")).keys)


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


def test_corpora_without_a_class_in_common_are_told_apart() -> None:
    both = Manifest(pd.concat([manifest(5, ("a",), "anger").table, manifest(5, ("b",), "fear calm").table]))
    for name in ("leave-one-corpus-out", "a-to-b"):
        with pytest.raises(ProtocolError, match=r"no class in common \(a: anger; b: calm, fear\); name"):
            load_protocol(name).select(both)


def test_what_takes_no_part_is_counted() -> None:
    both = Manifest(
        pd.concat([manifest(5, ("a",), "anger fear").table, manifest(5, ("b",), "fear calm").table])
    )
    rows = len(both.table) // 4
    assert load_protocol("a-to-b").left_out(both) == {"anger": rows, "calm": rows}
    assert load_protocol("speaker-kfold").left_out(both) == {}
    some = both.table["emotion"].mask(both.table.index % 5 == 0, None)
    part = Manifest(both.table.assign(emotion=some))
    assert load_protocol("speaker-kfold").left_out(part) == {"": int(some.isna().sum())}


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


def test_one_corpus_is_learned_from_and_another_tested_on_the_classes_that_both_have() -> None:
    parts = [
        manifest(5, ("a",), "anger fear boredom").table,
        manifest(5, ("b",), "anger fear calm").table,
        manifest(5, ("c",), "anger").table,
    ]
    joined = Manifest(pd.concat(parts))
    protocol = load_protocol("a-to-b")
    assert protocol.select(joined).labels == ["anger", "fear"]
    (fold,) = protocol.folds(joined)
    assert {key[0] for key in fold.test} == {"b"}
    assert {key[0] for key in (*fold.train, *fold.dev)} == {"a"}
    assert len({key[:3] for key in fold.dev}) == 1
    with pytest.raises(ProtocolError, match="a-to-d needs d; this manifest holds a, b, c; put both into one"):
        load_protocol("a-to-d").folds(joined)


def test_the_partitions_of_a_corpus_without_those_whose_speaker_nobody_knows() -> None:
    made = manifest(
        8, ("msp-podcast",), "anger contempt disgust fear happiness neutral sadness surprise"
    ).table
    splits = ["train", "train", "train", "dev", "test1", "test1", "test2", None]
    made["split"] = [splits[int(speaker)] for speaker in made["speaker"]]
    unknown = made["speaker"] == "02"
    made.loc[unknown, "speaker"] = None
    (fold,) = load_protocol("msp-podcast").folds(Manifest(made))
    speakers = [
        {key.removeprefix("msp-podcast")[:2] for key in part} for part in (fold.train, fold.dev, fold.test)
    ]
    assert speakers == [{"00", "01"}, {"03"}, {"04", "05"}]
    shared = made.assign(speaker=made["speaker"].replace("04", "00"))
    with pytest.raises(ProtocolError, match="has speaker 00 in train and in test"):
        load_protocol("msp-podcast").folds(Manifest(shared))


def test_of_two_speakers_each_is_tested_once_and_dev_has_other_words() -> None:
    emotions = "anger disgust fear happiness neutral sadness pleasant_surprise"
    made = manifest(2, ("tess",), emotions).table
    made["text"] = [f"say the word {take}" for take in made["take"]]
    protocol = load_protocol("tess")
    said = dict(zip(made["key"], made["text"], strict=True))
    folds = protocol.folds(Manifest(made))
    assert [{key[4:6] for key in fold.test} for fold in folds] == [{"00"}, {"01"}]
    for fold in folds:
        assert {key[4:6] for key in fold.train} == {key[4:6] for key in fold.dev}
        assert not {said[key] for key in fold.train} & {said[key] for key in fold.dev}
    assert protocol.speaker_dependent
    with pytest.raises(ProtocolError, match="needs 2 speakers who say several texts; this manifest has 3"):
        protocol.folds(Manifest(manifest(3, ("tess",), emotions).table))


def test_rows_that_are_not_rated_are_left_out_and_a_word_among_numbers_is_named() -> None:
    protocol = load_protocol("msp-podcast-dimensions")
    made = manifest(4, ("msp-podcast",), "anger").table.drop(columns="emotion")
    made["split"] = [
        "train" if speaker < "02" else "dev" if speaker == "02" else "test1" for speaker in made["speaker"]
    ]
    rated = made.assign(valence=3.5, arousal="2.0", dominance=4.0)
    rated.loc[rated["take"] == 0, "valence"] = None
    assert len(protocol.select(Manifest(rated))) == 16
    assert [len(part) for part in protocol.folds(Manifest(rated))[0][1:]] == [8, 4, 4]
    with pytest.raises(ProtocolError, match="no column arousal"):
        protocol.select(Manifest(rated.drop(columns="arousal")))
    rated.loc[rated["take"] == 1, "arousal"] = "high"
    with pytest.raises(ProtocolError, match="4 cells of arousal are no finite numbers"):
        protocol.select(Manifest(rated))
    rated.loc[rated["take"] == 1, "arousal"] = "inf"
    with pytest.raises(ProtocolError, match="no finite numbers"):
        protocol.select(Manifest(rated))
    elsewhere = rated.assign(corpus="calls", key=rated["key"] + "x", arousal="high")
    fine = Manifest(pd.concat([rated.assign(arousal=2.0), elsewhere]))
    assert set(protocol.select(fine).table["corpus"]) == {"msp-podcast"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kind": "cross-corpus"}, "with cross-corpus"),
        ({"kind": "speaker-kfold", "train_corpus": "a", "test_corpus": "b"}, "with cross-corpus"),
        ({"kind": "split-column", "test_split": "dev"}, "got test_split=dev, which is another part"),
    ],
)
def test_rules_that_cannot_be(wrong: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rule(**wrong)


@pytest.mark.parametrize(
    "names", [["valence", "valence"], ["error", "valence"], ["mean", "valence"], ["start"]]
)
def test_names_that_a_dimension_cannot_have(names: list[str]) -> None:
    protocol = load_protocol("msp-podcast-dimensions").model_dump(by_alias=True)
    with pytest.raises(ValueError, match=r"twice|cannot be called"):
        type(load_protocol("msp-podcast-dimensions"))(**{**protocol, "dimensions": names})


def test_votes_follow_the_map_of_a_protocol() -> None:
    made = manifest(10, ("iemocap",), "anger excitement happiness neutral sadness frustration").table
    sessions = [f"Ses0{1 + int(speaker) // 2}" for speaker in made["speaker"]]
    made = made.assign(
        session=sessions, votes_excitement=2, votes_happiness=1, votes_neutral=3, votes_other=1
    )
    protocol = load_protocol("iemocap-4-loso5")
    selected = protocol.select(Manifest(made))
    assert set(selected.table["votes_happiness"]) == {3}
    assert set(selected.table["votes_neutral"]) == {3}
    assert "votes_excitement" not in selected.table
    assert set(protocol.select(selected).table["votes_happiness"]) == {3}


def test_a_clip_that_is_left_out_is_so_under_the_name_that_join_gives_it() -> None:
    made = manifest(5, ("a",)).table
    made.loc[0, "key"] = "a/1076_MTI_SAD_XX"
    both = Manifest(pd.concat([made, manifest(5, ("b",)).table]))
    assert "a/1076_MTI_SAD_XX" not in load_protocol("a-to-b").select(both).keys
