"""Stops every verb that writes at any moment, runs it again, and compares all bytes it leaves.

    python benchmarks/interrupted.py FOLDER kill --moments 50
    python benchmarks/interrupted.py FOLDER full
    python benchmarks/interrupted.py FOLDER page

Each attempt is a copy of this process, which has imported everything, in a process group of its own; every
tenth is a new interpreter. Results are lines of ``FOLDER/series.jsonl``, where the same command goes on.
"""

import argparse
import base64
import errno
import hashlib
import http.client
import json
import os
import random
import re
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SPEED = ("encoder.width=16", "encoder.blocks=1", "encoder.bins=20", "train.epochs=2", "train.batch_size=16")
SMALL = (*SPEED, "train.checkpoint_steps=2")
MASKED = (*SMALL, "encoder.heads=2", "encoder.feed_forward=16")
RANKER = [f"ranker.{word.removeprefix('encoder.')}" for word in SPEED if not word.startswith("encoder")]
RANKER += [f"ranker.network.{word}" for word in ("bins=16", "width=12", "hidden=8", "blocks=1")]
MOST = 40  # attempts at one output that may be killed
PROTOCOL = """\
name: one-fold
description: one fold
corpus: {corpus}
labels: [{labels}]
label_source: intended labels
units: {units}
folds:
  - {{test: '{test}', dev: '{dev}'}}
dev_rule: made up
"""


def commands(given: Path) -> dict[str, list[str]]:
    """Returns what is stopped: words of the command line by name, the first of which is the verb's."""
    table, many, rule = str(given / "few.csv"), str(given / "many.csv"), str(given / "protocol.yaml")
    labelled = ["--manifest", table, "--protocol", rule]
    return {
        "finetune": ["finetune", *labelled, *SMALL, "-o", "out"],
        "finetune functionals": [
            "finetune",
            *labelled,
            "--encoder",
            "functionals",
            "--seeds",
            "2",
            "-o",
            "out",
        ],
        "pretrain": ["pretrain", "--manifest", table, "--objective", "mockingjay", *MASKED, "-o", "out"],
        "annotate speakers": ["annotate", "speakers", table, "-o", "out"],
        "annotate intensity": ["annotate", "intensity", table, "--protocol", rule, *RANKER, "-o", "out"],
        "predict": ["predict", many, "-m", "small", "--any-sound", "-o", "out.csv"],
        "predict views": [
            "predict",
            table,
            "--page",
            "out.html",
            "--summary",
            "sum.csv",
            "-o",
            "out.parquet",
        ],
        "embed": ["embed", many, "-e", "functionals", "-o", "out.npy"],
        "embed frames": ["embed", table, "-e", "filterbank", "--frames", "-o", "out.parquet"],
        "index": ["index", many, "-m", str(given / "clap" / "recogniser"), "-o", "out"],
        "serve": ["serve", "--port", "0", "--workers", "1"],
    }


def prepare(given: Path, manifest: Path | None) -> None:
    """Makes what the commands read, once."""
    from affetto.corpora import toy
    from affetto.corpora.manifest import Manifest

    if (given / "DONE").exists():
        return
    shutil.rmtree(given, ignore_errors=True)
    given.mkdir(parents=True)
    if manifest is None:
        few = toy.write(given / "toy", speakers=6, sentences=2, takes=1)
        toy.write(given / "many", speakers=6, sentences=4, takes=1).write(given / "many.csv")
    else:
        few = Manifest.read(manifest)
        few.write(given / "many.csv")
    few.write(given / "few.csv")
    labels, speakers = (sorted(few.table[name].unique()) for name in ("emotion", "speaker"))
    text = PROTOCOL.format(
        corpus=few.table["corpus"].iloc[0],
        labels=", ".join(labels),
        units=json.dumps(speakers),
        test=speakers[2],
        dev=speakers[-1],
    )
    (given / "protocol.yaml").write_text(text)
    sys.path.append(str(ROOT / "tests"))
    from text_models import save_tiny_text

    save_tiny_text(given / "text")
    words = ["pretrain", "--objective", "clap", "--text", str(given / "text"), "--protocol"]
    words += [str(given / "protocol.yaml"), "--manifest", str(given / "few.csv"), *SPEED, "enrolment=false"]
    done = attempt([*words, "-o", "clap"], given, Stop())
    assert done.code == 0, done.text
    (given / "DONE").touch()


class Stop(NamedTuple):
    """When to stop an attempt; all of it None for never."""

    seconds: float | None = None  # after the start: killed
    event: int | None = None  # the number of a change of the disk, before it is made: killed
    size: int | None = None  # bytes of a file, in the middle of the write that reaches them: killed
    full_from: int | None = None  # the number of a change, from which on the disk is full
    fresh: bool = False  # a new interpreter


class Ended(NamedTuple):
    """How an attempt ended: its exit code, negative for a signal; seconds; changes; what it said."""

    code: int
    seconds: float
    events: list[str]
    text: str


def attempt(words: list[str], place: Path, stop: Stop) -> Ended:
    """Runs a command in ``place``, and stops it."""
    place.mkdir(parents=True, exist_ok=True)
    log, events = place.with_name(f"{place.name}.log"), place.with_name(f"{place.name}.events")
    log.write_text("")
    events.write_text("")
    began = time.perf_counter()
    if stop.fresh:
        with open(log, "w") as handle:
            command = [sys.executable, "-m", "affetto", *words]
            given = os.environ | surroundings(place)
            child = subprocess.Popen(
                command, cwd=place, env=given, stdout=handle, stderr=handle, start_new_session=True
            )
        pid = child.pid
    elif (pid := os.fork()) == 0:
        _child(words, place, stop, log, events)
    watched = os.pidfd_open(pid)
    select.select([watched], [], [], stop.seconds)
    os.close(watched)
    kill_group(pid)  # its own processes too, where it ended by itself
    _, status = os.waitpid(pid, 0)
    seconds = time.perf_counter() - began
    text = log.read_text(errors="replace")
    return Ended(os.waitstatus_to_exitcode(status), seconds, events.read_text().splitlines(), text)


def kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    except PermissionError:
        os.kill(pid, signal.SIGKILL)


def surroundings(place: Path) -> dict[str, str]:
    """Returns the environment: caches and temporary files are compared, too."""
    (place / "tmp").mkdir(exist_ok=True)
    return {"AFFETTO_CACHE": str(place / "cache"), "TMPDIR": str(place / "tmp"), "OMP_NUM_THREADS": "1"}


def _child(words: list[str], place: Path, stop: Stop, log: Path, events: Path) -> None:
    code = 99
    try:
        os.setsid()
        os.chdir(place)
        os.environ.update(surroundings(place))
        tempfile.tempdir = None  # which the copied process may have chosen already
        for number in (1, 2):
            os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND), number)
        watch(place, stop, os.open(events, os.O_WRONLY | os.O_APPEND))
        if stop.size is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (stop.size, stop.size))
        from affetto.__main__ import main
        from affetto.inference import pipeline, writers

        # So that few recordings fill several shards, and go to processes.
        writers.SHARD_CLIPS = pipeline.GROUP_CLIPS = 32
        sys.argv = ["affetto", *words]
        main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def watch(place: Path, stop: Stop, file: int) -> None:
    """Notes every change of the disk in ``place``, and stops this process at the one that is asked for."""
    own, count = os.getpid(), 0
    inside = (str(place), "/proc/self")

    def changed(name: str, path: Any) -> None:
        nonlocal count
        text = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
        if os.getpid() != own or (text.startswith("/") and not text.startswith(inside)):
            return
        count += 1
        os.write(file, f"{name} {text.removeprefix(str(place) + '/')}\n".encode(errors="replace"))
        if count == stop.event:
            os.killpg(own, signal.SIGKILL)
        fills = name in ("write", "mkdir", "fsync")
        if stop.full_from is not None and count >= stop.full_from and fills:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), text or None)

    def hook(event: str, found: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(found[2], int):
            if found[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) and not isinstance(found[0], int):
                changed("write", found[0])
        elif event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"):
            changed(event[3:], found[0])

    sync = os.fsync
    sys.addaudithook(hook)
    os.fsync = lambda handle: (changed("fsync", ""), sync(handle))[1]


def content(path: Path) -> bytes:
    """Returns the bytes of a file, without the numbers that libsndfile draws for the sounds of a page."""
    data = path.read_bytes()
    if path.suffix != ".html":
        return data

    def plain(found: re.Match[bytes]) -> bytes:
        return re.sub(rb"(OggS.{10}).{4}(.{4}).{4}", rb"\1\2", base64.b64decode(found[1]), flags=re.DOTALL)

    return re.sub(rb'"audio/ogg">([^<]*)<', plain, data)


def tree(place: Path) -> dict[str, str]:
    """Returns the hash of every file below a folder, and "folder" for each folder."""
    return {
        str(path.relative_to(place)): "folder" if path.is_dir() else hashlib.sha256(content(path)).hexdigest()
        for path in sorted(place.rglob("*"))
    }


def differences(found: dict[str, str], right: dict[str, str]) -> list[str]:
    return sorted(name for name in {*found, *right} if found.get(name) != right.get(name))


class Series:
    """The lines of ``series.jsonl``."""

    def __init__(self, folder: Path) -> None:
        self.file, self.place = folder / "series.jsonl", folder / "place" / "one"
        self.rows: list[dict[str, Any]] = []
        if self.file.exists():
            self.rows = [json.loads(line) for line in self.file.read_text().splitlines()]

    def add(self, **row: Any) -> None:
        self.rows.append(row)
        with open(self.file, "a") as handle:
            handle.write(json.dumps(row) + "\n")

    def count(self, **wanted: Any) -> int:
        return sum(all(row.get(name) == value for name, value in wanted.items()) for row in self.rows)

    def undisturbed(self, words: list[str]) -> tuple[dict[str, str], list[Ended]]:
        """Runs a command twice without a stop; what it leaves must be equal."""
        trees, ends = [], []
        for _ in range(2):
            shutil.rmtree(self.place, ignore_errors=True)
            ends.append(attempt(words, self.place, Stop()))
            assert ends[-1].code == 0, ends[-1].text
            trees.append(tree(self.place))
        if unlike := differences(*trees):
            print(f"  two undisturbed runs differ in {unlike}", flush=True)
            self.add(name=" ".join(words), undisturbed=unlike)
        return trees[0], ends


def kill(series: Series, name: str, words: list[str], moments: int, kinds: list[str]) -> None:
    """Kills a command at random times, before changes of the disk, and within writes."""
    right, (first, second) = series.undisturbed(words)
    longest, changes = min(first.seconds, second.seconds), len(first.events)
    biggest = max((path.stat().st_size for path in series.place.rglob("*") if path.is_file()), default=1)
    wanted = dict.fromkeys(kinds, moments)
    print(f"{name}: {longest:.1f} s, {changes} changes, {len(right)} files and folders", flush=True)
    for kind, most in wanted.items():
        while (before := series.count(name=name, kind=kind, killed=True)) < most:
            output = series.count(name=name, kind=kind)
            drawn = random.Random(f"{name} {kind} {output}")
            shutil.rmtree(series.place, ignore_errors=True)
            kills, ended = [], None
            for number in range(MOST):
                if kind == "time":
                    moment = drawn.uniform(0, longest)
                    stop = Stop(seconds=moment, fresh=(output + number) % 10 == 9)
                elif kind == "change":
                    # Every change once, spread over the whole run; then again in what goes on.
                    place = 1 + before * changes // most if number == 0 else drawn.randrange(1, changes + 1)
                    stop = Stop(event=place)
                else:
                    stop = Stop(size=int(2 ** drawn.uniform(0, max(1, biggest).bit_length())))
                if before + len(kills) >= most or (number and drawn.random() < 0.2):
                    break
                ended = attempt(words, series.place, stop)
                if ended.code != -(signal.SIGXFSZ if kind == "within a write" else signal.SIGKILL):
                    break
                kills.append(ended.events[-1] if kind == "change" and ended.events else str(stop))
                series.add(name=name, kind=kind, killed=True, at=kills[-1])
            ended = attempt(words, series.place, Stop())
            found = differences(tree(series.place), right) if ended.code == 0 else [f"exit code {ended.code}"]
            series.add(name=name, kind=kind, output=True, kills=len(kills), at=kills, differences=found)
            if found:
                print(f"  {kind} {kills}: {found[:5]} {ended.text[-300:]}", flush=True)


def full(series: Series, name: str, words: list[str], moments: int) -> None:
    """Fills the disk at every change that needs room, and by every size; then makes room."""
    right, (first, _) = series.undisturbed(words)
    needs = [
        number for number, line in enumerate(first.events, 1) if line.startswith(("write", "mkdir", "fsync"))
    ]
    needs = needs[:: max(1, len(needs) // moments)]
    used = sum(path.stat().st_size for path in series.place.rglob("*") if path.is_file())
    print(f"{name}: {len(needs)} changes that need room, {used >> 10} KiB", flush=True)
    for number in needs:
        if not series.count(name=name, kind="no room from a change on", at=number):
            shutil.rmtree(series.place, ignore_errors=True)
            ended = attempt(words, series.place, Stop(full_from=number))
            _after(series, name, words, right, ended, kind="no room from a change on", at=number)
    for number in range(moments):
        size = max(4096, used * (number + 1) // moments // 4096 * 4096)
        if series.count(name=name, kind="a small disk", at=number):
            continue
        if series.place.is_mount():  # left by a series that was stopped
            subprocess.run(["umount", series.place], check=True)
        shutil.rmtree(series.place, ignore_errors=True)
        series.place.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", series.place], check=True)
        try:
            ended = attempt(words, series.place, Stop())
            subprocess.run(["mount", "-o", f"remount,size={1 << 30}", series.place], check=True)
            _after(series, name, words, right, ended, kind="a small disk", at=number)
        finally:
            subprocess.run(["umount", series.place], check=True)


def _after(
    series: Series, name: str, words: list[str], right: dict[str, str], ended: Ended, **about: Any
) -> None:
    lines = ended.text.splitlines()
    plain = ended.code == 2 and lines and lines[-1].startswith("error: ") and "Traceback" not in ended.text
    again = attempt(words, series.place, Stop())
    found = differences(tree(series.place), right) if again.code == 0 else [f"exit code {again.code}"]
    hit = ended.code != 0
    wrong = [] if plain or not hit else [f"exit code {ended.code}: {ended.text[-300:]}"]
    series.add(name=name, **about, hit=hit, output=True, said=lines[-1:], wrong=wrong, differences=found)
    if found or wrong:
        print(f"  {about}: {found[:5]} {wrong} {again.text[-300:] if found else ''}", flush=True)


def serve(series: Series, name: str, words: list[str], moments: int) -> None:
    """Kills a server while recordings are sent; a client sends again what was not answered."""
    from affetto.corpora.manifest import Manifest

    sounds = Manifest.read(series.file.parent / "given" / "few.csv").paths[:12]
    shutil.rmtree(series.place, ignore_errors=True)
    began = time.perf_counter()
    right, _ = _answers(series.place, words, sounds, [])
    longest, rest = (time.perf_counter() - began) / 2, tree(series.place)
    print(f"{name}: {longest:.1f} s for {len(sounds)} uploads", flush=True)
    while (before := series.count(name=name, killed=True)) < moments:
        drawn = random.Random(f"{name} {before}")
        stops = [drawn.uniform(0, longest) for _ in range(min(5, moments - before))]
        answers, kills = _answers(series.place, words, sounds, stops)
        for at in kills:
            series.add(name=name, kind="time", killed=True, at=at)
        found = differences(answers, right) + differences(tree(series.place), rest)
        series.add(name=name, kind="time", output=True, kills=len(kills), differences=found)
        if found:
            print(f"  {kills}: {found}", flush=True)


def _answers(
    place: Path, words: list[str], sounds: list[Path], stops: list[float]
) -> tuple[dict[str, str], list[float]]:
    """Sends recordings to servers that are killed, and returns all answers and when they were killed."""
    answers: dict[str, str] = {}
    kills: list[float] = []
    while len(answers) < len(sounds):
        pid, port = _server(place, words)
        after = stops.pop() if stops else None
        until = None if after is None else time.perf_counter() + after
        for sound in sounds:
            if str(sound) not in answers:
                try:
                    answers[str(sound)] = _send(port, sound, until)
                except OSError:
                    assert until is not None
                    kills.append(after or 0.0)
                    break
        os.kill(pid, signal.SIGINT if len(answers) == len(sounds) else signal.SIGKILL)
        os.waitpid(pid, 0)
    return answers, kills


def _server(place: Path, words: list[str]) -> tuple[int, int]:
    place.mkdir(parents=True, exist_ok=True)
    log, events = place.with_name(f"{place.name}.log"), place.with_name(f"{place.name}.events")
    log.write_text("")
    events.write_text("")
    if (pid := os.fork()) == 0:
        _child(words, place, Stop(), log, events)
    while " at http" not in (text := log.read_text()):
        assert not os.waitpid(pid, os.WNOHANG)[0], text
        time.sleep(0.02)
    return pid, int(text.strip().rpartition(":")[2])


def _send(port: int, sound: Path, until: float | None) -> str:
    """Sends a recording in small pieces; a TimeoutError at the moment when the server is to be killed."""
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.flac"\r\n\r\n'
    body = head + sound.read_bytes() + b"\r\n--b--\r\n"
    line = http.client.HTTPConnection("127.0.0.1", port)
    line.putrequest("POST", "/v1/audio/emotions")
    line.putheader("Content-Type", "multipart/form-data; boundary=b")
    line.putheader("Content-Length", str(len(body)))
    line.endheaders()
    for first in range(0, len(body), 2000):
        _left(line, until)
        line.send(body[first : first + 2000])
        time.sleep(0.002)
    _left(line, until)
    answer = line.getresponse()
    text = answer.read().decode()
    assert answer.status == 200, text
    return text


def _left(line: http.client.HTTPConnection, until: float | None) -> None:
    if until is not None:
        left = until - time.perf_counter()
        if left <= 0:
            raise TimeoutError
        line.sock.settimeout(left)


def page(series: Series) -> str:
    """Returns the tables of what was counted."""
    heads = ["at a random time", "before a change of the disk", "within a write", "runs that ended", "unlike"]
    lines = [f"| killed | {' | '.join(heads)} |", "|---|---:|---:|---:|---:|---:|"]
    total = Counter[str]()
    for name in dict.fromkeys(row["name"] for row in series.rows if row.get("killed")):
        ends = [row for row in series.rows if row["name"] == name and "kills" in row]
        counts = {kind: series.count(name=name, kind=kind, killed=True) for kind in KINDS}
        counts |= {"ended": len(ends), "unlike": sum(bool(row["differences"]) for row in ends)}
        total.update(counts)
        lines.append(f"| {name} | {' | '.join(map(str, counts.values()))} |")
    lines.append(f"| all | {' | '.join(str(total[kind]) for kind in (*KINDS, 'ended', 'unlike'))} |")
    heads = ["from a change on", "of a small size", "where the verb ended", "without a sentence", "unlike"]
    lines += ["", f"| disk full | {' | '.join(heads)} |", "|---|---:|---:|---:|---:|---:|"]
    for name in dict.fromkeys(row["name"] for row in series.rows if "hit" in row):
        rows = [row for row in series.rows if row["name"] == name and "hit" in row]
        kinds = Counter(row["kind"] for row in rows)
        cells = [kinds["no room from a change on"], kinds["a small disk"], sum(row["hit"] for row in rows)]
        cells += [sum(bool(row[each]) for row in rows) for each in ("wrong", "differences")]
        lines.append(f"| {name} | {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


KINDS = ("time", "change", "within a write")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("what", choices=["kill", "full", "page"])
    parser.add_argument("--moments", type=int, default=50, help="of each kind, for each verb")
    parser.add_argument("--verbs", nargs="*", help="only these")
    parser.add_argument(
        "--kinds", nargs="*", choices=KINDS, default=list(KINDS), help="of moments to kill at"
    )
    parser.add_argument(
        "--manifest", type=Path, help="real recordings of one corpus, with speakers and labels"
    )
    asked = parser.parse_args()
    given = asked.folder.resolve() / "given"
    if asked.what != "page":
        import affetto.annotation
        import affetto.cli
        import affetto.finetuning.run
        import affetto.intensity.run
        import affetto.language
        import affetto.pretraining.run
        import affetto.serving.run  # noqa: F401

        prepare(given, asked.manifest)
    series = Series(asked.folder.resolve())
    for name, words in commands(given).items():
        if asked.what == "page" or (asked.verbs and name not in asked.verbs):
            continue
        if asked.what == "full" and name != "serve":
            full(series, name, words, asked.moments)
        elif asked.what == "kill" and name != "serve":
            kill(series, name, words, asked.moments, asked.kinds)
        elif asked.what == "kill" and "time" in asked.kinds:
            serve(series, name, words, asked.moments)
    print(page(series))


if __name__ == "__main__":
    main()
