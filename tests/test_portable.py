"""affetto on Windows and macOS, as far as Linux can show: without what they lack, and without fork."""

import ast
import os
import subprocess
import sys
from pathlib import Path

from affetto import Recogniser, predict
from affetto.corpora.manifest import Manifest
from helpers import trees

# Everything is imported once, so that other packages are there as this system has them. Then affetto alone is
# imported again, and sees os and sys of another system, without the modules that it lacks.
ELSEWHERE = """
import builtins, importlib, multiprocessing, os, pkgutil, sys, types
import affetto

HIDDEN = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog", "readline"}
LACKING = ["fork", "forkpty", "sched_getaffinity", "getuid", "geteuid", "mkfifo", "uname", "statvfs",
           "sysconf", "killpg", "getloadavg", "O_DIRECTORY", "O_NOFOLLOW", "chown", "pread", "posix_fadvise"]
recording, *outputs = sys.argv[1:]

class Other(types.ModuleType):
    def __init__(self, own, lacking, **values):
        super().__init__(own.__name__)
        self.__dict__.update({name: value for name, value in vars(own).items() if name not in lacking})
        self.__dict__.update(values)

def modules():
    return [each.name for each in pkgutil.walk_packages(affetto.__path__, "affetto.")]

for name in modules():
    importlib.import_module(name)
plain = builtins.__import__
def hidden(name, globals=None, locals=None, fromlist=(), level=0):
    importer = (globals or {}).get("__name__", "")
    if importer.partition(".")[0] == "affetto":
        if name.partition(".")[0] in HIDDEN:
            raise ImportError(f"{importer} needs {name}, which {system} does not have")
        if name in OTHERS:
            return OTHERS[name]
    return plain(name, globals, locals, fromlist, level)

builtins.__import__ = hidden
multiprocessing.set_start_method("spawn", force=True)
for system, output in zip(("win32", "darwin"), outputs, strict=True):
    for name in [name for name in sys.modules if name.partition(".")[0] == "affetto"]:
        del sys.modules[name]
    OTHERS = {"os": Other(os, LACKING, name="nt" if system == "win32" else "posix"),
              "sys": Other(sys, [], platform=system)}
    import affetto
    for name in modules():
        importlib.import_module(name)
    from affetto.__main__ import main
    for words in (["--help"], ["predict", recording, "-o", output]):
        sys.argv = ["affetto", *words]
        try:
            main()
        except SystemExit as end:
            assert not end.code, (system, words, end)
try:
    exec("import os, sys; assert sys.platform == 'darwin' and not hasattr(os, 'fork'); import fcntl",
         {"__name__": "affetto.new"})
except ImportError as error:
    print(error)
"""


def test_all_is_imported_and_a_recording_predicted(corpus: Manifest, tmp_path: Path) -> None:
    recording = str(corpus.paths[0])
    here, *there = (tmp_path / f"{name}.csv" for name in ("here", "win32", "darwin"))
    command = [sys.executable, "-c", ELSEWHERE, recording, *map(str, there)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("affetto predict recording.wav") == 2
    assert "affetto.new needs fcntl, which darwin does not have" in done.stdout
    predict(Recogniser.from_pretrained(device="cpu"), recording, here)
    assert [each.read_bytes() for each in there] == 2 * [here.read_bytes()]


def test_modules_of_one_system_are_imported_only_where_they_may_be_missing() -> None:
    """The imports above run; those of the type checker and of branches for other systems are only read."""
    own = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "msvcrt", "winreg", "_winapi"}
    guilty = []
    for file, tree in trees().items():
        tried = {
            id(node)
            for attempt in ast.walk(tree)
            if isinstance(attempt, ast.Try)
            and any("ImportError" in ast.unparse(each.type or attempt) for each in attempt.handlers)
            for node in attempt.body
        }
        for node in (each for each in ast.walk(tree) if id(each) not in tried):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            guilty += [f"{file} imports {name}" for name in names if name in own]
    assert guilty == []


def test_backslashes_separate_folders(listed: Path, tmp_path: Path) -> None:
    table = Manifest.read(listed).table
    windows = table.assign(file=table["file"].str.replace("/", "\\"))
    assert windows["file"].str.contains("\\", regex=False).all()
    file = tmp_path / "windows.csv"
    windows.to_csv(file, index=False)
    root = Path(os.path.commonpath(Manifest.read(listed).paths))
    assert Manifest.read(file, root).paths == Manifest.read(listed).paths


def test_text_is_read_and_written_as_utf_8_everywhere() -> None:
    """A file that is opened without an encoding would have another one on Windows."""
    guilty = [
        f"{file}:{node.lineno}"
        for file, tree in trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and opens_text(node)
    ]
    assert guilty == []


def opens_text(node: ast.Call) -> bool:
    """Whether a call opens a file as text, or reads or writes one, and names no encoding."""
    name = ast.unparse(node.func)
    mode = [each.value for each in node.args[name == "open" :] if isinstance(each, ast.Constant)]
    if name.endswith(".open") and mode and isinstance(mode[0], str):
        name = "open" if set(mode[0]) <= set("rwaxt+b") else name
    if not (name == "open" or name.endswith((".read_text", ".write_text"))):
        return False
    binary = name == "open" and mode and "b" in str(mode[0])
    named = any(each.arg == "encoding" for each in node.keywords) or "utf-8" in mode
    return not binary and not named


def test_text_without_an_encoding_would_be_found() -> None:
    def found(line: str) -> bool:
        call = ast.parse(line, mode="eval").body
        assert isinstance(call, ast.Call)
        return opens_text(call)

    assert found("open(path)")
    assert found("path.open('w')")
    assert found("path.read_text()")
    assert not found("open(path, 'rb')")
    assert not found("path.read_text('utf-8')")
    assert not found("path.write_text(text, encoding='utf-8')")
    assert not found("WaveformCache.open(manifest)")
