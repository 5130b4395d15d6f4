"""Tables as people have them: no row is swallowed, no speaker becomes two, and what is left out is named."""

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from affetto.corpora import scan
from affetto.corpora.checks import alike
from affetto.corpora.manifest import Manifest
from affetto.corpora.tabular import read_table, write_table
from affetto.errors import ManifestError
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
