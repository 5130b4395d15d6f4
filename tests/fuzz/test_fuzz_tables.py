"""Damaged manifests, their sidecars and segments give rows or one AffettoError."""

from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest
from changes import Change, changed, changes, fuzzed
from hypothesis import strategies as st

from affetto.corpora.labels import Marks
from affetto.corpora.manifest import Manifest
from affetto.errors import AffettoError
from affetto.inference.segments import read_segments
from affetto.inference.sources import clips
from affetto.runs import FORMATS

SIDECARS = ("roots.json", "marks.json")
SEGMENTS = {
    "a.csv": b"file,start,end,speaker\na.wav,0.0,1.5,ann\na.wav,1.5,2,\nb,0,1e0,bob\n",
    "a.rttm": b"SPEAKER a 1 0.00 1.50 <NA> <NA> ann <NA> <NA>\nSPEAKER a 1 1.5 .5 <NA> <NA> bob <NA> <NA>\n",
    "a.txt": b"0.000000\t1.500000\tanger\n\\\t100.0\t200.0\n1.5\t2.0\tfear\n",
    "a.TextGrid": b'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 2\ntiers? '
    b'<exists>\nsize = 1\nitem []:\n item [1]:\n  class = "IntervalTier"\n  name = "ann"\n  xmin = 0\n '
    b' xmax = 2\n  intervals: size = 2\n  intervals [1]:\n   xmin = 0\n   xmax = 1.5\n   text = "a ""b"""\n'
    b'  intervals [2]:\n   xmin = 1.5\n   xmax = 2\n   text = ""\n',
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


@pytest.fixture(scope="module")
def manifests(folder: Path) -> dict[str, bytes]:
    """The same small manifest in each format, and what lies next to it."""
    table = pd.DataFrame(
        {
            "key": ["a", "b", "007"],
            "file": ["a.flac", "x\\b.wav", "ψ 1.wav"],
            "start": [0.5, None, 1.0],
            "end": [1.5, 2.0, None],
            "speaker": ["1", "2 ", None],
            "emotion": ["anger", "fear", 'a "b", c'],
            "corpus": ["c", "c", None],
            "votes_anger": [1, 0, 2],
            "array": ["v.npy#0", "v.npy#1", "v.npy#2"],
        }
    )
    made = {}
    for suffix in FORMATS:
        file = folder / f"whole{suffix}"
        manifest = Manifest(table, {"c": folder, "": folder})
        manifest.with_columns(
            {"cluster": ["1", "2", "3"]}, {"cluster": Marks("x", True, {"": ["c/1"]})}
        ).write(file)
        made[suffix] = file.read_bytes()
    return made | {name: (folder / f"whole.{name}").read_bytes() for name in SIDECARS}


@fuzzed(60, suffix=st.sampled_from(FORMATS), which=st.sampled_from(("table", *SIDECARS)), done=changes())
def test_a_damaged_manifest_is_rows_or_an_error(
    folder: Path, manifests: dict[str, bytes], suffix: str, which: str, done: list[Change]
) -> None:
    for name in SIDECARS:
        content = changed(manifests[name], done) if name == which else manifests[name]
        (folder / f"m.{name}").write_bytes(content)
    file = folder / f"m{suffix}"
    other = manifests[".csv" if suffix != ".csv" else ".jsonl"]
    file.write_bytes(changed(manifests[suffix], done, other) if which == "table" else manifests[suffix])
    with suppress(AffettoError):
        manifest = Manifest.read(file)
        assert len(manifest) == len(manifest.keys) == len(set(manifest.keys))
        assert len(list(clips(manifest))) == len(manifest)
        assert manifest.describe()
        assert len(manifest.sha256) == 64
        assert len(manifest.owners) == len(manifest)
        manifest.problems()
        manifest.write(folder / "again.csv")
        assert Manifest.read(folder / "again.csv").keys == manifest.keys


@fuzzed(60, name=st.sampled_from(sorted(SEGMENTS)), other=st.sampled_from(sorted(SEGMENTS)), done=changes())
def test_damaged_segments_are_segments_or_an_error(
    folder: Path, name: str, other: str, done: list[Change]
) -> None:
    file = folder / name
    file.write_bytes(changed(SEGMENTS[name], done, SEGMENTS[other]))
    with suppress(AffettoError):
        assert all(isinstance(each.start, float) for each in read_segments(file))
