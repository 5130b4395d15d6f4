"""A run folder is refused when it is another's, and holds whole files whatever happens."""

import errno
import json
import os
import platform
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from affetto.config import Settings
from affetto.data.caches import FeatureCache
from affetto.errors import RunError
from affetto.runs import RunFolder, atomic_write, environment, read_meta, write_json, write_text


class Asked(Settings):
    epochs: int = 3


def test_a_failure_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "inner" / "table.json"
    write_json(file, {"ü": 1})
    writing = atomic_write(file)
    writing.__enter__().write_text("half of", encoding="utf-8")
    assert not writing.__exit__(KeyError, KeyError(), None)
    assert json.loads(file.read_text(encoding="utf-8")) == {"ü": 1}
    assert [path.name for path in file.parent.iterdir()] == ["table.json"]


def test_a_kill_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "table.txt"
    write_text(file, "old")
    code = """
import os, signal, sys
from pathlib import Path
from affetto.runs import atomic_write
with atomic_write(Path(sys.argv[1])) as temporary:
    temporary.write_text("half of")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code, str(file)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert file.read_text(encoding="utf-8") == "old"
    write_text(file, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["table.txt"]


def test_two_processes_that_write_one_file_wait_for_each_other(tmp_path: Path) -> None:
    file = tmp_path / "table.txt"
    code = """
import sys
from pathlib import Path
from affetto.runs import atomic_write
with atomic_write(Path(sys.argv[1])) as temporary, open(temporary, "w") as handle:
    print(handle.write("first" * 9999), flush=True)
    sys.stdin.read()
"""
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline()
    thread = threading.Thread(target=write_text, args=(file, "second"))
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    assert not file.exists()
    other.communicate()
    thread.join(20)
    assert file.read_text(encoding="utf-8") == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["table.txt"]


def test_files_are_written_where_the_file_system_has_no_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("affetto.runs.fcntl.flock", refuse)
    with atomic_write(tmp_path / "table.txt") as temporary:
        assert str(os.getpid()) in temporary.name
        temporary.write_text("text", encoding="utf-8")
    assert (tmp_path / "table.txt").read_text(encoding="utf-8") == "text"


def test_a_full_disk_is_named_and_leaves_the_old_files(tmp_path: Path) -> None:
    code = """
import resource, sys
from pathlib import Path
from affetto.errors import RunError
from affetto.runs import RunFolder, write_text
folder = Path(sys.argv[1])
write_text(folder / "table.txt", "old")
run = RunFolder(folder)
run.log(epoch=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
for write in (lambda: write_text(folder / "table.txt", "new" * 5000), lambda: run.log(text="x" * 9000)):
    try:
        write()
    except RunError as error:
        print(error)
"""
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True
    )
    first, second = ran.stdout.splitlines()
    assert first.startswith(f"cannot write {tmp_path / 'table.txt'}: File too large; make room there")
    assert second.startswith(f"cannot write {tmp_path / 'metrics.jsonl'}: File too large")
    assert (tmp_path / "table.txt").read_text(encoding="utf-8") == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "table.txt"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "")
    with pytest.raises(RunError, match="cannot write"):
        write_text(tmp_path / "file" / "below.txt", "text")


def test_a_run_where_nothing_can_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    run = RunFolder(tmp_path / "file" / "run")
    with pytest.raises(RunError, match=r"cannot write .*run: .*name another folder"), run.locked():
        pass
    with pytest.raises(RunError, match=r"cannot write .*run: .*name another folder"):
        run.start(Asked())


@pytest.mark.parametrize("kind", ["pretrain", ""])
def test_a_run_of_another_verb_is_named(tmp_path: Path, kind: str) -> None:
    with pytest.raises(RunError, match=r"no finished run; run affetto finetune with -o .* \(again\) first"):
        read_meta(tmp_path, "finetune")
    RunFolder(tmp_path, kind).finish()
    named = kind or "an unknown verb"
    with pytest.raises(RunError, match=rf"holds a run of {named}; allowed: a run of finetune; name one"):
        read_meta(tmp_path, "finetune")


def test_a_finished_run_knows_its_kind_and_keeps_no_checkpoint(tmp_path: Path) -> None:
    write_text(tmp_path / "state.pt", "weights")
    write_text(tmp_path / "seed-0" / "state.pt", "of a fold that was killed as it ended")
    RunFolder(tmp_path, "finetune").finish({"seeds": [0]})
    (tmp_path / "seed-0").rmdir()
    assert read_meta(tmp_path, "finetune") == {"kind": "finetune", "seeds": [0]}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["DONE", "meta.json"]


def test_the_environment_names_versions_and_no_host() -> None:
    facts = environment(seed=3)
    assert facts["seed"] == 3
    assert facts["packages"]["torch"]
    assert set(facts) == {"python", "system", "processor", "cores", "packages", "seed"}
    assert platform.node() not in json.dumps(facts).split('"')


def test_an_unknown_package_is_said_to_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("affetto.runs.PACKAGES", ("no-such-package",))
    assert environment()["packages"] == {"no-such-package": "not installed"}


def test_a_finished_folder_has_nothing_to_do(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    assert run.start(Asked(), manifest_sha256="a")
    assert not run.done
    assert run.start(Asked(), manifest_sha256="a")  # unfinished: go on
    run.finish()
    assert run.done
    assert not run.start(Asked(), manifest_sha256="a")


@pytest.mark.parametrize("finished", [True, False])
def test_another_configuration_or_manifest_is_refused(tmp_path: Path, finished: bool) -> None:
    run = RunFolder(tmp_path)
    run.start(Asked(), manifest_sha256="a")
    run.log(epoch=1)
    if finished:
        run.finish()
    with pytest.raises(RunError, match="other settings"):
        run.start(Asked(epochs=4), manifest_sha256="a")
    with pytest.raises(RunError, match="manifest_sha256 'a', now it is 'b'"):
        run.start(Asked(), manifest_sha256="b")
    assert "epochs: 3" in (run / "config.yaml").read_text(encoding="utf-8")


def test_a_run_that_was_refused_at_once_leaves_its_folder_to_the_next(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.start(Asked(), manifest_sha256="a")
    (tmp_path / "seed-0").mkdir()
    assert run.start(Asked(epochs=4), manifest_sha256="b")
    assert "epochs: 4" in (run / "config.yaml").read_text(encoding="utf-8")
    assert json.loads((run / "env.json").read_text(encoding="utf-8"))["manifest_sha256"] == "b"


def test_a_run_that_was_killed_at_its_first_file_goes_on(tmp_path: Path) -> None:
    (tmp_path / ".config.yaml.part").write_text("epo")
    run = RunFolder(tmp_path)
    assert run.start(Asked(), manifest_sha256="a")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "env.json"]


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    write_text(tmp_path / "thesis.txt", "words")
    with pytest.raises(RunError, match="no run of affetto wrote"):
        RunFolder(tmp_path).start(Asked())


def test_the_log_grows_and_can_be_put_back(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for epoch in (1, 2, 3):
        run.log(epoch=epoch)
    run.rewrite_log([{"epoch": 1}])
    run.log(epoch=2)
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]


def test_two_runs_cannot_write_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code = """
import sys
from affetto.runs import RunFolder
with RunFolder(sys.argv[1]).locked():
    print("held", flush=True)
    sys.stdin.read()
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(RunError, match="another process is writing"), RunFolder(folder).locked():
        pass
    os.kill(holder.pid, signal.SIGKILL)  # a lock must not outlive its process
    holder.communicate()
    with RunFolder(folder).locked():
        assert not folder.exists()


@pytest.mark.parametrize("refusal", [errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_written_with_a_warning(
    refusal: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(refusal, os.strerror(refusal))

    monkeypatch.setattr(fcntl, "flock", refuse)
    told = pytest.warns(UserWarning, match="on a disk without locks .*let one process alone write there")
    with told, RunFolder(tmp_path / "run").locked():
        write_json(tmp_path / "run.json", {})
    monkeypatch.setenv("AFFETTO_CACHE", str(tmp_path / "cache"))
    with pytest.warns(UserWarning, match="on a disk without locks"):
        assert len(FeatureCache.open("abc", lambda: iter([np.ones((2, 3), np.float32)]))) == 1
    refusal = errno.EIO
    with (
        pytest.raises(RunError, match=r"cannot write .*run: Input/output error"),
        RunFolder(tmp_path / "run").locked(),
    ):
        pass
