"""Packed corpora: what comes back, going on, damage; tar files of other programs."""

import gzip
import io
import json
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from affetto.audio import decode, read_info, to_int16
from affetto.cli import app
from affetto.corpora import packing, scan
from affetto.corpora.manifest import Manifest
from affetto.errors import AudioError, ConfigError, ManifestError, RunError
from affetto.inference.sources import clips, decoded
from affetto.members import file_stamp, member_of, open_member


@pytest.fixture(scope="module")
def packed(corpus: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy corpus in four shards or so."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(packing, "_SHARD_BYTES", 1 << 19)
        folder = tmp_path_factory.mktemp("packed") / "toy"
        packing.pack(corpus, folder)
    return folder


def test_every_row_comes_back_as_it_is_decoded(corpus: Manifest, packed: Path) -> None:
    made = Manifest.read(packed / packing.PACKED)
    assert len(list(packed.glob("shard-*.tar"))) > 2
    assert made.keys == corpus.keys
    assert made.sha256 == corpus.sha256
    for row, (new, old) in enumerate(zip(made.paths, corpus.paths, strict=True)):
        samples = to_int16(decode(old))
        np.testing.assert_array_equal(to_int16(decode(new)), samples)
        assert made.table["samples"][row] == len(samples)
        assert read_info(new).frames == len(samples)
    assert made.problems() == []


def test_other_programs_read_the_tar_files(corpus: Manifest, packed: Path) -> None:
    names, rows = [], []
    for tar in sorted(packed.glob("*.tar")):
        with tarfile.open(tar) as file:
            for sound, row in zip(members := file.getmembers(), members[1:], strict=False):
                if sound.name.endswith(".flac"):
                    assert row.name == sound.name.removesuffix("flac") + "json"
                    rows.append(json.load(file.extractfile(row)))  # type: ignore[arg-type]
                    names.append(soundfile.read(file.extractfile(sound))[1])
    assert names == [16_000] * len(corpus)
    assert [row["key"] for row in rows] == corpus.keys
    assert [row["emotion"] for row in rows] == corpus.table["emotion"].tolist()


def test_every_door_takes_it(packed: Path, tmp_path: Path) -> None:
    made = Manifest.read(packed / packing.PACKED)
    heard = [decoded(clip) for clip in clips(packed / packing.PACKED)]
    np.testing.assert_array_equal(heard[7], decode(made.paths[7]))
    words = ["predict", str(packed / packing.PACKED), "-o", str(tmp_path / "out.csv"), "-m", "small"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert f"{len(made)} recordings, 0 could not be read" in result.output


def test_parts_odd_keys_and_what_cannot_be_read(corpus: Manifest, tmp_path: Path) -> None:
    keys = ["a.b/c", "né\n1", "/x", "..", "k" * 240, "gone"]
    table = corpus.table.iloc[:6].assign(key=keys, start=[0.1, *[np.nan] * 5], end=[0.4, *[np.nan] * 5])
    table.loc[5, "file"] = "nowhere.wav"
    Manifest(table, corpus.roots).write(tmp_path / "odd.csv")
    words = ["manifest", "pack", str(tmp_path / "odd.csv"), "-o", str(tmp_path / "odd")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert "5 utterances in 1 shard," in result.output
    assert "1 could not be read; left-out.csv there says why" in result.output
    made = Manifest.read(tmp_path / "odd" / packing.PACKED)
    assert made.keys == keys[:5]
    np.testing.assert_array_equal(decode(made.paths[0]), decode(corpus.paths[0], 0.1, 0.4))
    assert made.table["start"].isna().all()
    left = (tmp_path / "odd" / packing.LEFT_OUT).read_text(encoding="utf-8")
    assert "gone,nowhere.wav" in left
    assert "no such file" in left
    again = CliRunner().invoke(app, words)  # nothing is done, and the outcome is the same
    assert (again.exit_code, again.output) == (1, result.output)


def test_opus_is_small_and_has_as_many_samples(corpus: Manifest, packed: Path, tmp_path: Path) -> None:
    some = corpus.where(corpus.keys[:3])
    result = packing.pack(some, tmp_path / "opus", "opus")
    made = Manifest.read(tmp_path / "opus" / packing.PACKED)
    assert result.size < 40_000
    for new, old in zip(made.paths, some.paths, strict=True):
        assert len(decode(new)) == len(decode(old))
    with pytest.raises(RunError, match="other settings"):
        packing.pack(some, tmp_path / "opus", "flac")
    with pytest.raises(RunError, match="manifest_sha256"):
        packing.pack(corpus, tmp_path / "opus", "opus")
    with pytest.raises(ConfigError, match="'flac' or 'opus'"):
        packing.pack(some, tmp_path / "wav", "wav")
    assert not (tmp_path / "wav").exists()


KILLED = """
import sys
from affetto.corpora import packing
from affetto.corpora.manifest import Manifest
packing._SHARD_BYTES, write = 1 << 19, packing.write_text
def write_text(path, text):
    write(path, text)
    print(path.name, flush=True)
    sys.stdin.readline()
packing.write_text = write_text
packing.pack(Manifest.read(sys.argv[1]), sys.argv[2])
"""


def test_a_killed_pack_goes_on_to_equal_bytes(
    listed: Path, packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = [sys.executable, "-c", KILLED, str(listed), str(tmp_path / "out")]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "shard-000000.json\n"
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "shard-000001.json\n"
        process.send_signal(signal.SIGKILL)
    (tmp_path / "out" / "shard-000001.json").unlink()  # as if it had been killed between the two files
    first = (tmp_path / "out" / "shard-000000.tar").stat().st_mtime_ns
    monkeypatch.setattr(packing, "_SHARD_BYTES", 1 << 19)
    packing.pack(Manifest.read(listed), tmp_path / "out")
    assert (tmp_path / "out" / "shard-000000.tar").stat().st_mtime_ns == first
    for whole in [*packed.glob("shard-*"), packed / packing.PACKED]:
        assert (tmp_path / "out" / whole.name).read_bytes() == whole.read_bytes(), whole.name


def test_a_flipped_bit_and_a_cut_shard_are_named(corpus: Manifest, tmp_path: Path) -> None:
    packing.pack(corpus.where(corpus.keys[:4]), tmp_path / "out")
    listed, tar = tmp_path / "out" / packing.PACKED, tmp_path / "out" / "shard-000000.tar"
    assert CliRunner().invoke(app, ["manifest", "validate", str(listed)]).output == "4 rows, 0 problems\n"
    data, last = bytearray(tar.read_bytes()), member_of(Manifest.read(listed).paths[3])
    assert last is not None
    data[700] ^= 1
    tar.write_bytes(data)
    result = CliRunner().invoke(app, ["manifest", "validate", str(listed)])
    assert result.exit_code == 1
    assert "damaged: shard-000000.tar: " in result.output
    tar.write_bytes(data[: last.offset + 99])
    result = CliRunner().invoke(app, ["manifest", "validate", str(listed)])
    assert "copy it again" in result.output
    assert result.output.count("unreadable: ") == 2
    tar.unlink()
    with pytest.raises(AudioError, match=r"shard-000000\.tar cannot be read \(No such file"):
        decode(Manifest.read(listed).paths[0])


def test_a_long_member_is_read_bit_by_bit(tmp_path: Path) -> None:
    sound = 0.1 * np.random.default_rng(0).standard_normal(3_000_000).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", sound, 16_000, "FLOAT")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tmp_path / "long.wav", "long.wav")
    member = Manifest(scan("table", tmp_path / "x.tar").table, {"": tmp_path}).table["file"][0]
    path = tmp_path / member
    assert isinstance(open_member(path), io.BufferedReader)
    assert file_stamp(path)[0] == (tmp_path / "long.wav").stat().st_size
    np.testing.assert_array_equal(decode(path, 100, 101), sound[1_600_000:1_616_000])
    np.testing.assert_array_equal(decode(path), sound)


def flac(seconds: float, rate: int = 16_000, channels: int = 1) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(round(1000 * seconds)).standard_normal((round(seconds * rate), channels))
    soundfile.write(file, 0.1 * noise, rate, format="FLAC")
    return file.getvalue()


def tar_of(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_webdataset_is_read_as_it_is(tmp_path: Path) -> None:
    about = {"speaker": "s1", "emotion": "Angry", "nested": {"a": 1}, "start": 7.5}
    first = {
        "a/1.flac": flac(0.5),
        "a/1.json": json.dumps(about).encode(),
        "a/1.npy": b"",
        "a/2.txt": b"hello",
    }
    tar_of(tmp_path / "w-0.tar", {**first, "a/2.16k.flac": flac(0.7), "a/2.cls": b"3\n"})
    tar_of(tmp_path / "w-1.tar", {"a/1.flac": flac(0.25, 44_100, 2), "README": b"no recording"})
    words = ["scan", "table", str(tmp_path), "-o", str(tmp_path / "m.csv"), "--name", "web"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0
    assert "passed over in tar files: 1 .npy, 1 ." in result.output
    made = Manifest.read(tmp_path / "m.csv")
    assert made.keys == ["w-0/a/1", "w-0/a/2", "w-1/a/1"]  # since both files have a key a/1
    assert made.table["speaker"].tolist() == ["s1", None, None]
    assert made.table["emotion"].tolist() == ["anger", None, None]
    assert made.table["text"].tolist() == [None, "hello", None]
    assert made.table["cls"].tolist()[1] == 3
    assert made.table["source_start"].tolist()[0] == 7.5
    assert made.table["start"].isna().all()
    assert made.table["samples"].tolist() == [len(decode(path)) for path in made.paths]


def test_a_damaged_tar_file_does_not_end_the_scan(tmp_path: Path) -> None:
    tar_of(tmp_path / "good.tar", {"1.flac": flac(0.5)})
    tar_of(tmp_path / "cut.tar", {"2.flac": flac(0.5), "3.flac": flac(0.6)})
    (tmp_path / "cut.tar").write_bytes((tmp_path / "cut.tar").read_bytes()[: len(flac(0.5)) + 3000])
    (tmp_path / "none.tar").write_bytes(b"no tar file" * 99)
    (tmp_path / "good.json").write_text('["of another program"]')
    made = scan("table", tmp_path)
    assert list(packing.damaged_shards(made)) == []
    assert made.keys == ["2", "1"]
    assert {file for file, _ in made.errors} >= {"cut.tar", "none.tar"}
    assert any("cut.tar: of no use after" in note for note in made.notes)


def test_lhotse_shar_is_read_as_it_is(tmp_path: Path) -> None:
    tar_of(
        tmp_path / "recording.000000.tar",
        {"c.1.flac": flac(1.0), "c.1.json": b"{}", "c2.flac": flac(2.0), "c2.json": b"{}", "c3.nodata": b""},
    )
    tar_of(tmp_path / "features.000000.tar", {"c1.llc": b"x"})
    own = {"id": "s1", "start": -0.2, "duration": 1.4, "speaker": "ann", "text": "hi", "gender": "F"}
    two = [
        {"id": "x", "start": 0.0, "duration": 0.8, "speaker": "bob", "custom": {"emotion": "sad"}},
        {"id": "y", "start": 1.0, "duration": 5.0, "speaker": "eve", "custom": {"emotion": "fear"}},
    ]
    cuts = [
        {"id": "c.1", "start": 0, "duration": 1.0, "supervisions": [own]},
        {"id": "c2", "start": 0, "duration": 2.0, "supervisions": two},
        {"id": "c3", "start": 0, "duration": 1.0},
    ]
    with gzip.open(tmp_path / "cuts.000000.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(cut) + "\n" for cut in cuts)
    made = scan("table", tmp_path)
    assert made.keys == ["c.1", "c2-x", "c2-y"]
    assert made.table["speaker"].tolist() == ["ann", "bob", "eve"]
    assert made.table["gender"].tolist()[0] == "female"
    assert made.table["emotion"].tolist() == [None, "sadness", "fear"]
    assert made.table["end"].tolist()[1:] == [0.8, 2.0]
    assert [len(samples) for samples in map(decoded, clips(made))] == [16_000, 12_800, 16_000]  # type: ignore[arg-type]
    assert made.table["samples"].tolist() == [16_000, 12_800, 16_000]
    assert "1 tar files of features, 1 cuts without a recording" in " ".join(made.notes)


def test_a_folder_without_either_says_so(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(b"")
    with pytest.raises(ManifestError, match="not one usable recording"):
        scan("table", tmp_path)
