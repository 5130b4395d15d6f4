"""``tools/install-torch`` finds a build of torch on any machine."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "tools" / "install-torch"
# A Python whose pip knows the versions in $SERVED and writes down what it is asked to install.
PYTHON = """#!/bin/sh
case "$*" in
  "-c import torch") exit 1 ;;
  *--quiet*"index versions"*) ;;  # as pip is then: it prints no version
  *"index versions torch"*) echo "torch (9.9.9)"; echo "Available versions: $SERVED" ;;
  *install*) for last; do :; done
    echo "$last" >> "$LOG"
    case "$last" in uv) [ "$UV" = yes ] || exit 1 ;; esac ;;
esac
"""
UV = """#!/bin/sh
echo "uv $*" >> "$LOG"
[ "$INDEX" = yes ]
"""


def install(
    tmp_path: Path, *words: str, served: str, uv: bool = True, index: bool = True
) -> tuple[list[str], str]:
    """Returns what was installed, and what was printed."""
    for name, text in {"python": PYTHON, "uv": UV, "uname": "#!/bin/sh\necho Linux\n"}.items():
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        # uv stands beside python, as pip puts it there, and not on the path.
        file.write_text(text, encoding="utf-8")
        file.chmod(0o755)
    path = tmp_path / "path"
    path.mkdir()
    (path / "uname").symlink_to(tmp_path / "bin" / "uname")
    for tool in ("sh", "tr", "grep", "head", "dirname"):  # and no uv that this machine may have
        (path / tool).symlink_to(str(shutil.which(tool)))
    environment = {
        "PATH": str(path),
        "LOG": str(tmp_path / "log"),
        "SERVED": served,
        "UV": "yes" if uv else "no",
        "INDEX": "yes" if index else "no",
    }
    done = subprocess.run(
        [SCRIPT, tmp_path / "bin" / "python", *words], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return (tmp_path / "log").read_text().splitlines(), done.stderr


HIDDEN = "9.9.9, 9.9.8, 2.6.0"


def test_the_cpu_build_is_taken_by_name_where_it_is_served(tmp_path: Path) -> None:
    assert install(tmp_path, served="9.9.9, 9.9.8+cpu, 9.9.8") == (["torch==9.9.8+cpu"], "")


def test_uv_finds_it_where_it_is_not_served(tmp_path: Path) -> None:
    installed, printed = install(tmp_path, served=HIDDEN)
    assert installed[0] == "uv"
    assert "--torch-backend cpu torch>=2.6" in installed[1]
    assert printed == ""


@pytest.mark.parametrize(("uv", "index"), [(False, True), (True, False)])
def test_the_plain_build_comes_last_with_its_cost(tmp_path: Path, uv: bool, index: bool) -> None:
    installed, printed = install(tmp_path, served=HIDDEN, uv=uv, index=index)
    assert installed[-1] == "torch>=2.6"
    assert printed.splitlines() == [printed.strip()]
    assert "several GB" in printed


def test_a_build_that_is_asked_for_is_installed_as_it_is(tmp_path: Path) -> None:
    assert install(tmp_path, "torch", served="9.9.9+cpu") == (["torch"], "")
