"""Tables as people have them: no row is swallowed, no speaker becomes two, and what is left out is named."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from affetto.corpora import scan
from affetto.corpora.checks import alike
from affetto.corpora.manifest import Manifest
from affetto.corpora.reading import read_table
from affetto.corpora.tabular import write_table
from affetto.errors import AudioError, ManifestError
from affetto.inference.sources import clips
from affetto.protocols import load_protocol

Record = Callable[..., Path]


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("cell", ["s1 ", "\ts1", "\u00a0s1", "s1\u3000"])
def test_a_speaker_in_spaces_is_the_same(tmp_path: Path, cell: str) -> None:
    table = written(tmp_path / "t.csv", f'file,emotion,speaker\na.wav,sad,s1\nb.wav,sad,"{cell}"\n')
    assert Manifest.read(table).speakers == ["s1"]


def test_letters_are_composed_and_blank_cells_are_missing(tmp_path: Path) -> None:
    text = "file,emotion,speaker\nJose\u0301.wav,sad,Jose\u0301\nb.wav, ,Jos\u00e9\nc.wav,zo rro,  \n"
    table = Manifest.read(written(tmp_path / "t.csv", text)).table
    assert table["speaker"].tolist() == ["Jos\u00e9", "Jos\u00e9", None]
    assert table["emotion"].tolist() == ["sad", None, "zo rro"]
    assert table["file"][0] == "Jose\u0301.wav"  # the name on disk


@pytest.mark.parametrize("other", ["S1", "s 1", "\uff53\uff11", "s\u200b1", "s01"])
def test_almost_the_same_speaker_is_named(other: str) -> None:
    rows = {"file": ["a.wav", "b.wav", "c.wav"], "speaker": ["s1", other, "s11"], "emotion": "sad"}
    manifest = Manifest(pd.DataFrame(rows))
    (problem,) = alike(manifest.table, "speaker")
    assert (problem.key, problem.kind) == ("b", "alike")
    assert repr(other) in problem.message
    assert "'s1'" in problem.message
    assert [each.kind for each in manifest.problems()].count("alike") == 1
    with pytest.warns(UserWarning, match="spelled almost as 's1'"):
        load_protocol("leave-one-speaker-out").folds(manifest)


def test_one_name_in_two_corpora_is_not_alike() -> None:
    rows = {"file": ["a.wav", "b.wav"], "speaker": ["s1", "S1"], "corpus": ["x", "y"]}
    assert not list(alike(Manifest(pd.DataFrame(rows)).table, "speaker"))


@pytest.mark.parametrize(
    ("first", "last"),
    [('"Hello he said', 'good" he said'), ('"Hello he said', 'good"'), ('"Hello" he said', "x"), ('"', "x")],
)
def test_a_quotation_mark_in_tabs_swallows_no_row(tmp_path: Path, first: str, last: str) -> None:
    text = f"file\ttext\tspeaker\na\t{first}\ts1\nb\tfine\ts2\nc\t{last}\ts3\n"
    table = read_table(written(tmp_path / "t.tsv", text))
    assert table["file"].tolist() == ["a", "b", "c"]
    assert table["text"].tolist() == [first, "fine", last]


def test_a_table_with_commas_is_read_whole_or_refused_by_line(tmp_path: Path) -> None:
    def read(rows: str) -> pd.DataFrame:
        return read_table(written(tmp_path / "t.csv", f"file,speaker,text\n{rows}"))

    for line, rows in ((2, "a,s1,hello, you\nb,s2,ok\n"), (3, 'a,s1,"hello, you"\nb,s2,ok, yes\n')):
        with pytest.raises(ManifestError, match=f"line {line} has 4 cells and the header 3"):
            read(rows)
    with pytest.raises(ManifestError, match="line 2: a quotation mark begins a cell that goes on"):
        read('a,s1,"hello\nb,s2,ok"\n')
    with pytest.raises(ManifestError, match=r"line 2: .*quotation mark in text is written twice"):
        read('a,s1,"hello, you" he said\nb,s2,ok\n')
    assert read('a,s1,"hello" he said\nb,s2,ok\n')["file"].tolist() == ["a", "b"]
    assert read('a,s1,"two\nlines, ""quoted"""\nb,s2\n')["text"].tolist()[0] == 'two\nlines, "quoted"'


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    texts = ['"', 'a "b" c', "two\nlines", "tab\tcomma,", "x;y", " ", "\r\n", '"two\nlines"']
    table = pd.DataFrame({"file": [f"{n}.wav" for n in range(8)], "text": texts, "speaker": "007"})
    for suffix in ("csv", "tsv", "jsonl", "parquet"):
        write_table(table, tmp_path / f"t.{suffix}")
        again = read_table(tmp_path / f"t.{suffix}")
        assert again.to_dict("list") == table.to_dict("list"), suffix


def test_numbers_are_the_ids_that_they_look_like(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "a.wav")
    record(tmp_path / "b.wav")
    rows = [{"wav": "a.wav", "emo": "ang", "spk": 3, "age": 31}, {"wav": "b.wav", "emo": "fea", "age": None}]
    text = "\ufeff" + "\n".join(map(json.dumps, rows))
    manifest = scan("table", written(tmp_path / "t.jsonl", text))
    assert manifest.table["speaker"].tolist() == ["3", None]
    assert manifest.table["age"].tolist()[0] == 31
    big = written(tmp_path / "u.jsonl", '{"file":"a","speaker":12345678901234567}\n\n{"file":"b"}\n')
    assert Manifest.read(big).speakers == ["12345678901234567"]
    pd.DataFrame({"file": ["a", "b"], "speaker": [3.0, None]}).to_parquet(tmp_path / "v.parquet")
    assert Manifest.read(tmp_path / "v.parquet").speakers == ["3"]
    for line in ("[1]", '{"file"'):
        with pytest.raises(ManifestError, match="line 2 is no JSON object"):
            read_table(written(tmp_path / "w.jsonl", f'{{"file":"a"}}\n{line}\n'))


def test_spans_of_time_are_seconds(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "long.wav", seconds=5)
    spans = {"start": pd.to_timedelta([0.5, 1.25], unit="s"), "end": pd.to_timedelta([1.5, None], unit="s")}
    table = pd.DataFrame({"file": "long.wav", "speaker": ["a", "b"], "emotion": "anger", **spans})
    for suffix in ("parquet", "csv"):
        write_table(table, tmp_path / f"t.{suffix}")
        for manifest in (scan("table", tmp_path / f"t.{suffix}"), Manifest.read(tmp_path / f"t.{suffix}")):
            assert manifest.table["start"].tolist() == [0.5, 1.25]
            assert manifest.table["end"].tolist()[0] == 1.5
            assert pd.isna(manifest.table["end"][1])
    assert scan("table", tmp_path / "t.parquet").keys == ["long@0.5", "long@1.25"]


@pytest.mark.parametrize(
    ("cell", "seconds"), [("1,25", 1.25), ("0:01:02,5", 62.5), ("1 day, 0:00:01", 86401), ("7", 7)]
)
def test_times_of_other_notations(tmp_path: Path, cell: str, seconds: float) -> None:
    table = written(tmp_path / "t.csv", f"file;start\na.wav;{cell}\n")
    assert Manifest.read(table).table["start"].tolist() == [seconds]


@pytest.mark.parametrize("cell", ["1,2,3", "one", "1:02"])
def test_what_is_no_time_is_refused(tmp_path: Path, cell: str) -> None:
    with pytest.raises(ManifestError, match="must hold seconds"):
        Manifest.read(written(tmp_path / "t.csv", f"file;start\na.wav;{cell}\n"))


def test_rows_outside_a_recording_are_left_out_by_name(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "long.wav", seconds=5)
    spans = ["0,1", "4.5,5.2", "9,10", "3,3", "4,2", "-1,2", "1,500", ",5.1", "2,"]
    text = "file,start,end\n" + "".join(f"long.wav,{span}\n" for span in spans)
    manifest = scan("table", written(tmp_path / "t.csv", text))
    assert manifest.table["end"].tolist()[:3] == [1, 5, 5]
    assert len(manifest) == 4
    assert [message.split(" part from ")[1].split(" of ")[0] for _, message in manifest.errors] == [
        *("9 s to 10 s", "3 s to 3 s", "4 s to 2 s", "-1 s to 2 s", "1 s to 500 s")
    ]
    assert "2 rows end after their recording" in manifest.notes[0]
    kinds = [problem.kind for problem in Manifest.read(tmp_path / "t.csv").problems()]
    assert kinds.count("unreadable") == 5


def test_of_twins_and_repeated_rows_one_is_kept(tmp_path: Path, record: Record) -> None:
    for name in ("sounds/a.wav", "sounds/a.flac", "sounds/b.wav", "sounds/b/a.wav"):
        record(tmp_path / name)
    manifest = scan("table", tmp_path / "sounds")
    assert manifest.table["file"].tolist() == ["a.flac", "b/a.wav", "b.wav"]
    assert manifest.errors == (("a.wav", "has the name of a.flac, which is kept"),)
    text = "file,emotion\na.wav,sad\nb.wav,sad\na.wav,sad\n"
    twice = scan("table", written(tmp_path / "sounds/t.csv", text))
    assert twice.keys == ["a", "b"]
    assert twice.errors == (("a.wav", "is there twice with all its cells; one row is kept"),)


def test_several_raters_are_told_what_a_row_is(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "a.wav")
    table = written(tmp_path / "t.csv", "file,emotion,rater\na.wav,anger,r1\na.wav,fear,r2\n")
    with pytest.raises(ManifestError, match=r"a.wav has several rows, .* emotion, rater; .* votes_anger"):
        scan("table", table)
    with pytest.raises(ManifestError, match=r"keys occur twice: a; .* votes_anger"):
        Manifest.read(table)


def test_backslashes_separate_folders(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "sub/a.wav")
    record(tmp_path / "odd\\b.wav")
    table = written(tmp_path / "t.csv", "file,emotion\nsub\\a.wav,anger\nodd\\b.wav,fear\n..\\c.wav,fear\n")
    manifest = scan("table", table)
    assert manifest.table["file"].tolist() == ["sub/a.wav", "odd\\b.wav"]
    assert "lies outside" in manifest.errors[0][1]
    read = Manifest.read(table)
    assert [read.path(row) for row in (0, 1)] == [tmp_path / "sub/a.wav", tmp_path / "odd\\b.wav"]
    with pytest.raises(ManifestError, match="lies outside"):
        read.path(2)


def test_sound_inside_a_table_is_told_in_a_sentence(tmp_path: Path) -> None:
    sound = {"bytes": b"fLaC" * 100, "path": "a.flac"}
    pd.DataFrame({"audio": [sound], "label": ["anger"]}).to_parquet(tmp_path / "t.parquet")
    for read in (Manifest.read, lambda path: scan("table", path)):
        with pytest.raises(
            ManifestError, match="the column 'audio' holds the recordings themselves"
        ) as raised:
            read(tmp_path / "t.parquet")
        assert "fLaC" not in str(raised.value)


def test_pointers_of_git_lfs_are_called_so(tmp_path: Path) -> None:
    text = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 72862\n"
    (tmp_path / "AudioWAV").mkdir()
    for code in ("ANG", "SAD"):
        written(tmp_path / f"AudioWAV/1001_DFA_{code}_XX.wav", text)
    with pytest.raises(
        ManifestError, match=r"its 2 recordings are pointers of git-lfs; .* fetches"
    ) as raised:
        scan("crema-d", tmp_path)
    assert "\n" not in str(raised.value)
    for name in ("t.csv", "t.parquet"):
        with pytest.raises(ManifestError, match="is a pointer of git-lfs, not the table"):
            Manifest.read(written(tmp_path / name, text))
    rows = "file,emotion\nAudioWAV/1001_DFA_ANG_XX.wav,anger\n"
    (problem,) = Manifest.read(written(tmp_path / "m.csv", rows)).problems()
    assert "a pointer of git-lfs, not the recording" in problem.message


def test_linked_folders_are_read_once(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "away/f01/a.wav")
    record(tmp_path / "here/f02/b.wav")
    for name, target in {
        "f01": "away/f01",
        "again": "here/f02",
        "loop": "here",
        "up": ".",
        "all": "away",
    }.items():
        (tmp_path / "here" / name).symlink_to(tmp_path / target)
    manifest = scan("table", tmp_path / "here")
    assert sorted(manifest.table["file"]) == ["all/f01/a.wav", "f02/b.wav"]
    assert "passed over below" in manifest.notes[1]
    assert manifest.notes[1].endswith("here: 4 read by another path")
    with pytest.warns(UserWarning, match="here: 4 read by another path"):
        found = [clip.file for clip in clips(tmp_path / "here")]
    assert [Path(file).name for file in found] == ["b.wav", "a.wav"]


def test_what_a_folder_holds_besides_is_counted(tmp_path: Path, record: Record) -> None:
    record(tmp_path / "a.wav")
    (tmp_path / ".git").mkdir()
    for name in ("b.m4a", "c.M4A", "d.amr", "e.tak", "noise", "notes.txt", "._a.wav", ".git/f.wav"):
        (tmp_path / name).write_bytes(b"x")
    manifest = scan("table", tmp_path)
    assert manifest.notes[1].endswith(": 2 hidden, 2 .m4a, 1 .tak, 1 without a suffix, 1 .amr")
    with pytest.warns(UserWarning, match=": 2 hidden, 1 .tak, 1 without a suffix$"):
        assert len(list(clips(tmp_path))) == 4
    for name in ("a.wav", "b.m4a", "c.M4A", "d.amr"):
        (tmp_path / name).unlink()
    with pytest.raises(AudioError, match=r"found no recording .* 1 .tak"):
        list(clips(tmp_path))
    with pytest.raises(ManifestError, match=r"passed over below .* 1 .tak"):
        scan("table", tmp_path)


def test_a_folder_that_cannot_be_opened_is_counted(
    tmp_path: Path, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(tmp_path / "a.wav")
    record(tmp_path / "closed/b.wav")
    real = os.scandir

    def scandir(path: str) -> object:
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.warns(UserWarning, match="1 that cannot be opened"):
        assert len(list(clips(tmp_path))) == 1


def test_names_of_every_kind_are_found_or_refused(tmp_path: Path, record: Record) -> None:
    names = [
        "two\nlines.wav",
        'the "a".wav',
        "-o.wav",
        "a, b.wav",
        "x" * 240 + ".wav",
        " a .wav",
        "\u4f60\u597d.wav",
    ]
    for name in names:
        record(tmp_path / "sounds" / name)
    table = pd.DataFrame({"file": [*names, "y" * 5000, "nul\0.wav"], "emotion": "anger"})
    for suffix in ("csv", "tsv", "jsonl", "parquet"):
        write_table(table, tmp_path / f"sounds/t.{suffix}")
        manifest = scan("table", tmp_path / f"sounds/t.{suffix}")
        assert manifest.table["file"].tolist() == names, suffix
        assert [file[:3] for file, _ in manifest.errors] == ["yyy", "nul"]
        manifest.write(tmp_path / f"m.{suffix}")
        assert [path.name for path in Manifest.read(tmp_path / f"m.{suffix}").paths] == names
    assert sorted(Path(clip.file).name for clip in clips(tmp_path / "sounds")) == sorted(names)


def test_a_table_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name,text\na.wav,hello, you\n")
    with pytest.raises(ManifestError, match=r"metadata.csv: cannot be read as a table: line 2 has 3 cells"):
        scan("table", tmp_path)
    for encoding in ("latin-1", "utf-16"):
        (tmp_path / "t.csv").write_text("file,emotion\na.wav,w\u00fctend\n", encoding=encoding)
        with pytest.raises(ManifestError, match=r"t.csv: .* it is not UTF-8; save it again"):
            Manifest.read(tmp_path / "t.csv")
