import json
from collections.abc import Callable
from pathlib import Path

import pytest

from affetto.corpora import scan
from affetto.errors import ManifestError

Record = Callable[..., Path]


def rows(manifest: object) -> list[dict[str, object]]:
    return manifest.table.to_dict("records")  # type: ignore[attr-defined]


def test_a_csv_with_a_column_mapping(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "clips" / "1.wav")
    record(tmp_path / "clips" / "2.wav")
    (tmp_path / "list.csv").write_text(
        "Pfad,Gefuehl,Wer,Sex,age\nclips/1.wav,Wut,03,F,7\nclips/2.wav,Angry,04,m,08\n"
    )
    manifest = scan(
        "table",
        tmp_path / "list.csv",
        columns={"file": "Pfad", "emotion": "Gefuehl", "speaker": "Wer"},
        name="mine",
    )
    one, other = rows(manifest)
    assert (one["emotion"], one["speaker"], one["gender"], one["corpus"]) == ("anger", "03", "female", "mine")
    assert (other["emotion"], other["gender"], other["age"]) == ("anger", "male", "08")
    assert manifest.paths == [tmp_path / "clips" / "1.wav", tmp_path / "clips" / "2.wav"]


def test_a_tsv_with_usual_names_needs_no_mapping(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "audio" / "a.wav")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "l.tsv").write_text(
        "Path\tLabel\tspeaker_id\ttranscript\tstart\na.wav\tsad\t1\tHi\t0.1\n"
    )
    (row,) = rows(scan("table", tmp_path / "lists" / "l.tsv", audio_root=tmp_path / "audio"))
    assert (row["emotion"], row["speaker"], row["text"], row["start"]) == ("sadness", "1", "Hi", 0.1)


def test_columns_that_do_not_exist_are_named(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("clip,emotion\na.wav,sad\n")
    with pytest.raises(
        ManifestError, match=r"lacks a column of file names; it has clip, emotion.*--column file="
    ):
        scan("table", tmp_path / "l.csv")
    with pytest.raises(ManifestError, match=r"unknown column of the table 'clips'.*did you mean 'clip'"):
        scan("table", tmp_path / "l.csv", columns={"file": "clips"})


def test_an_unknown_emotion_is_refused_mapped_or_kept(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "a.wav")
    (tmp_path / "l.csv").write_text("file,emotion\na.wav,happines\n")
    with pytest.raises(ManifestError, match=r"unknown emotion 'happines'.*did you mean 'happiness'"):
        scan("table", tmp_path / "l.csv")
    assert scan("table", tmp_path / "l.csv", labels={"happines": "happiness"}).labels == ["happiness"]
    assert scan("table", tmp_path / "l.csv", keep_labels=True).labels == ["happines"]


def test_files_that_cannot_be_used_are_left_out_and_named(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "in" / "a.wav")
    record(tmp_path / "b.wav")
    (tmp_path / "in" / "broken.wav").write_bytes(b"?")
    (tmp_path / "in" / "l.csv").write_text(
        "file,speaker\na.wav,1\nbroken.wav,1\nabsent.wav,1\n../b.wav,1\n,2\n"
    )
    manifest = scan("table", tmp_path / "in" / "l.csv")
    assert manifest.keys == ["a"]
    errors = dict(manifest.errors)
    assert set(errors) == {"broken.wav", "absent.wav", "../b.wav", "(no name)"}
    assert "lies outside" in errors["../b.wav"]
    (tmp_path / "in" / "l.csv").write_text("file,speaker\nabsent.wav,1\n")
    with pytest.raises(ManifestError, match=r"not one usable recording; absent\.wav"):
        scan("table", tmp_path / "in" / "l.csv")


def test_a_folder_with_a_pattern(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "spk01" / "angry" / "u1.flac")
    record(tmp_path / "spk02" / "sad" / "u1.wav")
    record(tmp_path / "noise.wav")
    manifest = scan("table", tmp_path, pattern=r"(?P<speaker>spk\d+)/(?P<emotion>\w+)/")
    assert [(row["key"], row["speaker"], row["emotion"]) for row in rows(manifest)] == [
        ("spk01/angry/u1", "spk01", "anger"),
        ("spk02/sad/u1", "spk02", "sadness"),
    ]
    assert manifest.notes == ("1 recordings do not match the pattern: noise.wav",)
    with pytest.raises(ManifestError, match="do not match the pattern"):
        scan("table", tmp_path, pattern=r"(?P<speaker>nobody)/")


@pytest.mark.parametrize(
    ("pattern", "message"), [("(", "no regular expression"), (r"\d+", "names no column")]
)
def test_a_bad_pattern(tmp_path: Path, record: Record, pattern: str, message: str) -> None:
    record(tmp_path / "a.wav")
    with pytest.raises(ManifestError, match=message):
        scan("table", tmp_path, pattern=pattern)


def test_a_folder_without_anything_is_unlabelled_speech(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "a.wav")
    manifest = scan("table", tmp_path)
    assert (len(manifest), manifest.speakers, manifest.labels) == (1, [], [])
    assert "no pattern was given" in manifest.notes[0]


def test_a_pattern_fills_what_a_table_leaves_empty(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "s1_a.wav")
    record(tmp_path / "s2_b.wav")
    (tmp_path / "l.csv").write_text("file,speaker\ns1_a.wav,known\ns2_b.wav,\n")
    manifest = scan("table", tmp_path / "l.csv", pattern=r"(?P<speaker>s\d)_")
    assert manifest.table["speaker"].tolist() == ["known", "s2"]


def test_hugging_face_metadata(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "data" / "train" / "a.wav")
    record(tmp_path / "data" / "train" / "b.wav")
    (tmp_path / "data" / "metadata.csv").write_text(
        "file_name,label,speaker\ntrain/a.wav,happy,1\ntrain/b.wav,angry,2\n"
    )
    manifest = scan("table", tmp_path / "data")
    assert manifest.labels == ["anger", "happiness"]
    assert manifest.corpora == ["data"]


def test_emobox_jsonl(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "downloads" / "emodb" / "wav" / "03a02Wb.opus".replace("opus", "flac"))
    line = {
        "key": "emodb-03a02Wb",
        "dataset": "emodb",
        "wav": "downloads/emodb/wav/03a02Wb.wav",
        "type": "raw",
        "sample_rate": 16000,
        "length": 0.5,
        "task": "category",
        "emo": "boredem",
        "channel": 1,
    }
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "emodb.jsonl").write_text(json.dumps(line) + "\n")
    manifest = scan(
        "table", tmp_path / "data" / "emodb.jsonl", audio_root=tmp_path, pattern=r"/(?P<speaker>\d\d)a"
    )
    (row,) = rows(manifest)
    assert (row["key"], row["corpus"], row["emotion"], row["speaker"]) == (
        "emodb-03a02Wb",
        "emodb",
        "boredom",
        "03",
    )
    assert row["file"] == "downloads/emodb/wav/03a02Wb.flac"


def test_unknown_corpora_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"unknown corpus 'cremad'.*did you mean 'crema-d'"):
        scan("cremad", tmp_path)
    with pytest.raises(ManifestError, match="does not exist"):
        scan("emodb", tmp_path / "nowhere")
    (tmp_path / "l.txt").touch()
    with pytest.raises(ManifestError, match=r"unknown table format '\.txt'"):
        scan("table", tmp_path / "l.txt")


def test_a_sheet_of_a_spreadsheet_program(tmp_path: Path, record: Record) -> None:
    for name in ("day1/A7_x.wav", "day2/B3_x.wav", "day2/C.1.wav"):
        record(tmp_path / name)
    text = "Aufnahme;Stimmung\nA7_x;wütend\nB3_x.wav;traurig\nC.1;froh\n"
    (tmp_path / "sheet.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    manifest = scan(
        "table",
        tmp_path / "sheet.csv",
        columns={"file": "Aufnahme", "emotion": "Stimmung"},
        pattern=r"(?P<speaker>[A-Z])",
        labels={"wütend": "anger", "traurig": "sadness", "froh": "happiness"},
    )
    assert [(row["file"], row["speaker"], row["emotion"]) for row in rows(manifest)] == [
        ("day1/A7_x.wav", "A", "anger"),
        ("day2/B3_x.wav", "B", "sadness"),
        ("day2/C.1.wav", "C", "happiness"),
    ]


def test_a_name_of_two_recordings_is_refused_for_that_row(tmp_path: Path, record: Record) -> None:
    for name in ("one/a.wav", "two/a.wav", "two/b.wav"):
        record(tmp_path / name)
    (tmp_path / "l.csv").write_text("file,emotion\na,sad\nb,sad\nc,sad\n")
    manifest = scan("table", tmp_path / "l.csv")
    assert [row["file"] for row in rows(manifest)] == ["two/b.wav"]
    assert manifest.errors[0] == (
        "a",
        "is the name of 2 recordings: one/a.wav, two/a.wav; name their folders too",
    )
    assert "no such file" in manifest.errors[1][1]


def test_a_sheet_that_is_no_text_says_how_to_save_it(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_bytes("file,emotion\na.wav,wütend\n".encode("cp1252"))
    with pytest.raises(ManifestError, match="it is not UTF-8; save it again as CSV in UTF-8"):
        scan("table", tmp_path / "l.csv")
    (tmp_path / "l.xlsx").write_bytes(b"PK")
    with pytest.raises(ManifestError, match="a spreadsheet program saves its sheet as CSV"):
        scan("table", tmp_path / "l.xlsx")


def test_a_name_with_a_dot_is_not_taken_for_another(tmp_path: Path, record: Record) -> None:
    for name in ("clip.flac", "clip.2.flac", "f01.wav"):
        record(tmp_path / name)
    (tmp_path / "f01").mkdir()
    (tmp_path / "l.csv").write_text("file,emotion\nclip.2,sad\nclip,angry\nf01,happy\nclip.3,sad\n")
    manifest = scan("table", tmp_path / "l.csv")
    assert [(row["file"], row["emotion"]) for row in rows(manifest)] == [
        ("clip.2.flac", "sadness"),
        ("clip.flac", "anger"),
        ("f01.wav", "happiness"),
    ]
    assert [file for file, _ in manifest.errors] == ["clip.3"]


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nfile;emotion\na.wav;sad\n",
        'file;emotion;"note, by us, long, too long"\na.wav;sad;x\n',
        "file;emotion\na.wav;sad;\n",
        "file\temotion\na.wav\tsad\n",
    ],
)
def test_oddities_of_sheets(tmp_path: Path, record: Record, text: str) -> None:
    record(tmp_path / "a.wav")
    (tmp_path / "l.csv").write_text(text)
    (row,) = rows(scan("table", tmp_path / "l.csv"))
    assert (row["file"], row["emotion"]) == ("a.wav", "sadness")
