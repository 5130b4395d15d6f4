"""Corpora whose file names are codes: columns from names, strange files by name, and the oddities of each."""

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from affetto.audio import read_info
from affetto.corpora import scan
from affetto.errors import AudioError

Record = Callable[..., Path]
JL = "Raw JL corpus (unchecked and unannotated)/JL(wav+txt)"

ROWS: dict[str, tuple[list[str], dict[str, list[Any]]]] = {
    "cafe": (
        ["speaker", "emotion", "gender", "age", "intensity_level", "text", "language"],
        {
            "Colère/Fort/01-C-2-1.wav": [
                *("01", "anger", "male", 46, "high", "Un cheval fou dans mon jardin", "fr")
            ],
            "D‚ago–t/Faible/04-D-1-6.aiff": [
                *("04", "disgust", "female", 50, "low", "Six ours aimants domestiqués", "fr")
            ],
            "Neutre/11-N-1-3.wav": [
                *("11", "neutral", "male", 35, None, "Trois cygnes aveugles au bord du lac", "fr")
            ],
            "Neutre/12-N-3.wav": [
                *("12", "neutral", "female", 37, None, "Trois cygnes aveugles au bord du lac", "fr")
            ],
        },
    ),
    "emodb": (
        ["speaker", "emotion", "gender", "take", "text", "language"],
        {"wav/03a01Fa.wav": ["03", "happiness", "male", "a", "Der Lappen liegt auf dem Eisschrank.", "de"]},
    ),
    "emovo": (
        ["speaker", "emotion", "gender", "text", "language"],
        {
            "EMOVO/f1/dis-f1-b1.wav": ["f1", "disgust", "female", "Gli operai si alzano presto.", "it"],
            "EMOVO/renamed/gio-m3-d1.wav": ["m3", "happiness", "male", "Sabato sera cosa farà?", "it"],
        },
    ),
    "jl-corpus": (
        ["speaker", "emotion", "gender", "session", "take", "text", "language"],
        {
            f"{JL}/female1_angry_10a_1.wav": ["female1", "anger", "female", "female1a", 1, None, "en"],
            f"{JL}/male2_apologetic_3b_2.wav": ["male2", "apology", "male", "male2b", 2, None, "en"],
        },
    ),
    "ravdess": (
        ["speaker", "emotion", "gender", "intensity_level", "take", "text", "language"],
        {
            "Actor_02/03-01-06-02-02-01-02.wav": [
                *("02", "fear", "female", "strong", "01", "Dogs are sitting by the door.", "en")
            ]
        },
    ),
    "savee": (
        ["speaker", "emotion", "gender", "text", "language"],
        {
            "AudioData/DC/a01.wav": ["DC", "anger", "male", None, "en"],
            "AudioData/DC/sa15.wav": ["DC", "sadness", "male", None, "en"],
            "AudioData/DC/su02.wav": ["DC", "surprise", "male", None, "en"],
        },
    ),
    "tess": (
        ["speaker", "emotion", "gender", "age", "text", "language"],
        {
            "OAF_back_angry.wav": ["OAF", "anger", "female", 64, "Say the word back.", "en"],
            "OAF_neutral/OA_bite_neutral.wav": ["OAF", "neutral", "female", 64, "Say the word bite.", "en"],
            "YAF_pleasant_surprised/YAF_youth_ps.wav": [
                *("YAF", "pleasant_surprise", "female", 26, "Say the word youth.", "en")
            ],
        },
    ),
    "urdu": (
        ["speaker", "emotion", "gender", "text", "language"],
        {
            "Angry/SM1_F10_A010.wav": ["SM1", "anger", "male", None, "ur"],
            "renamed/SF10_F1_S01.wav": ["SF10", "sadness", "female", None, "ur"],
        },
    ),
}
"""Columns, and the values of them for files."""

KEYS = {"savee": ["DC_a01", "DC_sa15", "DC_su02"]}
KEYS["tess"] = ["OAF_back_angry", "OAF_bite_neutral", "YAF_youth_ps"]
"""Keys that are more than the name of the file."""

STRANGE: dict[str, tuple[str, dict[str, str]]] = {
    "cafe": (
        "02-J-1-2",
        {
            "hello": "is not named actor-emotion-intensity-sentence",
            "13-C-1-1": "unknown actor '13'",
            "01-X-1-1": "unknown emotion 'X'",
            "01-C-3-1": "unknown intensity '3'",
            "01-C-1": "unknown intensity ''",
            "01-C-1-7": "unknown sentence '7'",
        },
    ),
    "emodb": (
        "wav/03a01Fa",
        {
            "wav/whatever": "is not named by speaker, sentence, emotion letter and version",
            "wav/07a01Fa": "unknown speaker '07'; allowed: 08, 09, 13, 14, 16, 03, 10, 11, 12, 15",
            "wav/03a03Fa": "unknown sentence 'a03'",
            "wav/03a01Xa": "unknown emotion 'X'; allowed: A, E, F, L, N, T, W",
        },
    ),
    "emovo": (
        "f1/neu-f1-n5",
        {
            "f1/hello": "emotion-speaker-sentence",
            "f1/foo-f1-b1": "unknown emotion 'foo'",
            "f1/neu-f4-b1": "unknown speaker 'f4'",
            "f1/neu-f1-b9": "unknown sentence 'b9'",
        },
    ),
    "jl-corpus": (
        "sounds/male1_sad_1a_1",
        {
            "sounds/male1_jealous_1a_1": "unknown emotion 'jealous'",
            "sounds/male3_sad_1a_1": "like female1_angry_10a_1",
            "sounds/holiday": "like female1_angry_10a_1",
        },
    ),
    "ravdess": (
        "Actor_02/03-01-06-02-02-01-02",
        {
            "Actor_02/03-01-09-02-02-01-02": "unknown emotion '09'",
            "Actor_02/03-01-06-02-02-01-31": "has the actor 31; RAVDESS has 01 to 24",
            "Actor_02/notes": "modality-channel-emotion-intensity-statement-repetition-actor",
        },
    ),
    "savee": (
        "AudioData/DC/a01",
        {
            "AudioData/renamed/a02": "unknown speaker 'renamed'",
            "AudioData/DC/x01": "unknown emotion 'x'",
            "AudioData/DC/hello": "by emotion and sentence, like a01 or DC_a01",
        },
    ),
    "tess": (
        "renamed/OAF_back_angry",
        {
            "hello": "SPEAKER_WORD_EMOTION",
            "OAF_back_bored": "unknown emotion 'bored'",
            "XAF_back_angry": "unknown speaker 'XAF'; allowed: OAF, YAF",
        },
    ),
    "urdu": (
        "Neutral/SM5_F1_N029",
        {
            "Neutral/hello": "by speaker, file and emotion",
            "Neutral/SX1_F1_A01": "unknown gender 'X'",
            "Neutral/SM1_F1_D01": "unknown emotion 'D'",
        },
    ),
}
"""A file that is right, and others with the error of each."""

BROKEN = {
    "cafe": "01-P-1-1",
    "emodb": "wav/03a02Fa",
    "emovo": "f1/tri-f1-b1",
    "jl-corpus": "sounds/male1_happy_1a_1",
    "ravdess": "Actor_02/03-01-05-02-02-01-02",
    "savee": "AudioData/DC/d01",
    "tess": "YAF_back_fear",
    "urdu": "Neutral/SM5_F2_N030",
}


@pytest.mark.parametrize("corpus", ROWS)
def test_columns_come_from_the_name(corpus: str, tmp_path: Path, record: Record) -> None:
    columns, rows = ROWS[corpus]
    for file in rows:
        record(tmp_path / file)
    manifest = scan(corpus, tmp_path)
    table = manifest.table.set_index("file")[columns]
    assert {file: table.loc[file].tolist() for file in table.index} == rows
    assert sorted(manifest.keys) == sorted(KEYS.get(corpus, [Path(file).stem for file in rows]))
    assert (manifest.errors, manifest.notes) == ((), ())


@pytest.mark.parametrize("corpus", STRANGE)
def test_strange_files_are_named(corpus: str, tmp_path: Path, record: Record) -> None:
    right, wrong = STRANGE[corpus]
    for name in (right, *wrong):
        record(tmp_path / f"{name}.wav")
    (tmp_path / f"{BROKEN[corpus]}.wav").write_bytes(b"RIFF")
    manifest = scan(corpus, tmp_path)
    assert manifest.table["file"].tolist() == [f"{right}.wav"]
    errors = {file.removesuffix(".wav"): message for file, message in manifest.errors}
    assert set(errors) == {*wrong, BROKEN[corpus]}
    assert {name: message for name, message in wrong.items() if message not in errors[name]} == {}


def test_a_name_that_is_no_utf_8_is_one_error(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "one" / "01-C-2-1.wav")
    garbled = os.fsencode(tmp_path) + b"/Col\x8are"
    os.mkdir(garbled)
    shutil.copy(tmp_path / "one" / "01-C-2-1.wav", garbled + b"/02-C-2-1.wav")
    manifest = scan("cafe", tmp_path)
    assert manifest.keys == ["01-C-2-1"]
    assert manifest.errors == (("Col?re/02-C-2-1.wav", "its name is not UTF-8; rename it"),)
    with pytest.raises(AudioError, match="not UTF-8"):
        read_info(os.fsdecode(garbled + b"/02-C-2-1.wav"))


def test_sung_speech_is_no_part_of_ravdess(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "Actor_02" / "03-01-06-02-02-01-02.wav")
    record(tmp_path / "Actor_02" / "03-02-06-02-02-01-02.wav")
    manifest = scan("ravdess", tmp_path)
    assert (manifest.keys, manifest.errors) == (["03-01-06-02-02-01-02"], ())


def test_texts_lie_beside_the_recordings_of_jl_corpus(tmp_path: Path, record: Record) -> None:
    record(tmp_path / JL / "female1_angry_10a_1.wav").with_suffix(".txt").write_text("Carl leaps.\n")
    record(tmp_path / JL.lower() / "female1_angry_10a_1.wav")
    manifest = scan("jl-corpus", tmp_path)
    assert manifest.table["text"].tolist() == ["Carl leaps."]
    assert (manifest.errors, manifest.notes) == ((), ())
    shutil.rmtree(tmp_path / JL)
    (note,) = scan("jl-corpus", tmp_path).notes
    assert note == f"{JL} is absent: every folder was searched"


def test_the_flat_copy_of_savee_gives_the_same_rows(tmp_path: Path, record: Record) -> None:
    for code in ("a01", "sa15"):
        record(tmp_path / "ALL" / f"DC_{code}.wav")
        record(tmp_path / "AudioData" / "AudioData" / "DC" / f"{code}.wav")
    flat, nested = (
        scan("savee", tmp_path / name).table.drop(columns="file") for name in ("ALL", "AudioData")
    )
    assert flat.equals(nested)
    for speaker in ("JE", "KL"):
        record(tmp_path / "own" / speaker / "n30.wav")
    manifest = scan("savee", tmp_path / "own")
    assert (manifest.keys, manifest.speakers) == (["JE_n30", "KL_n30"], ["JE", "KL"])


def test_a_copy_of_tess_inside_itself_counts_once(tmp_path: Path, record: Record) -> None:
    for folder in ("TESS", "TESS/TESS"):
        record(tmp_path / folder / "YAF_sad" / "YAF_back_sad.wav")
    manifest = scan("tess", tmp_path)
    assert manifest.table["file"].tolist() == ["TESS/TESS/YAF_sad/YAF_back_sad.wav"]
    assert manifest.errors == ()
    assert "passed over 1 recordings" in manifest.notes[0]


@pytest.mark.corpora
def test_the_real_ravdess(corpora_root: Path) -> None:
    manifest = scan("ravdess", corpora_root / "ravdess")
    assert (len(manifest), len(manifest.speakers), manifest.errors) == (1440, 24, ())
    assert Counter(manifest.table["emotion"])["neutral"] == 96
    assert Counter(manifest.table["gender"]) == {"male": 720, "female": 720}
    found = manifest.where(manifest.table["speaker"] == "07").problems()
    assert [(problem.kind, problem.key) for problem in found] == [("duplicate", "03-01-03-01-02-02-07")]


@pytest.mark.corpora
def test_the_real_emodb(corpora_root: Path) -> None:
    manifest = scan("emodb", corpora_root / "emodb")
    assert (len(manifest), len(manifest.speakers), manifest.errors) == (535, 10, ())
    assert Counter(manifest.table["emotion"]) == {
        "anger": 127,
        "boredom": 81,
        "disgust": 46,
        "fear": 69,
        "happiness": 71,
        "neutral": 79,
        "sadness": 62,
    }
    assert Counter(manifest.table["gender"]) == {"female": 302, "male": 233}
