"""Copies of a process end with it, however it ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from affetto.parallel import can_fork, cores
from affetto.progress import progress

PARENT = """
import os, sys, time
from affetto.parallel import copies

def slow(number):
    time.sleep(300)

with copies(2) as pool:
    pids = {pool.submit(os.getpid).result() for _ in range(50)}
    futures = [pool.submit(slow, number) for number in range(20)]
    while not futures[1].running():
        time.sleep(0.01)
    print(" ".join(map(str, pids | set(pool._processes))), flush=True)
    if "stop" in sys.argv:
        raise SystemExit(3)
    futures[0].result()
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for_the_end(pids: list[int]) -> None:
    until = time.monotonic() + 20
    while any(map(alive, pids)):
        assert time.monotonic() < until, f"{[pid for pid in pids if alive(pid)]} go on"
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc")
def test_copies_of_a_killed_process_end() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2
    assert all(map(alive, pids))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_for_the_end(pids)


def test_copies_do_not_finish_what_is_stopped() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PARENT, "stop"], stdout=subprocess.PIPE, timeout=60, check=False
    )
    assert ran.returncode == 3  # each would sleep for five minutes


def test_a_copy_that_dies_is_told() -> None:
    code = (
        "import os\nfrom concurrent.futures.process import BrokenProcessPool\n"
        "from affetto.parallel import copies\n"
        "try:\n"
        "    with copies(2) as pool:\n"
        "        pool.submit(os._exit, 1).result()\n"
        "except BrokenProcessPool:\n"
        "    print('told')\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout == "told\n"


BY_GROUPS = """
import os
from affetto.parallel import in_copies

def work(group):
    if 5 in group or 9 in group:
        os._exit(1)
    return [10 * item for item in group]

groups = ([number, number + 1, number + 2, number + 3] for number in range(0, 400, 4))
found = [pair for group, got in in_copies(work, groups, 2, lambda item: "lost") for pair in zip(group, got)]
assert [item for item, _ in found] == list(range(400))
assert all(got == (10 * item if item not in (5, 9) else "lost") for item, got in found)
print("two lost")
"""


def test_an_item_that_kills_its_process_loses_itself_alone() -> None:
    done = subprocess.run([sys.executable, "-c", BY_GROUPS], capture_output=True, text=True, check=True)
    assert done.stdout == "two lost\n"


def test_nothing_is_copied_beside_another_thread() -> None:
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    try:
        assert not can_fork()
    finally:
        done.set()
        other.join()


def test_cores_are_those_that_may_be_used() -> None:
    code = (
        "import os; from affetto.parallel import cores\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(cores())"
    )
    if hasattr(os, "sched_setaffinity"):
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "1\n"
    assert cores() >= 1


@pytest.mark.skipif(sys.platform != "linux", reason="copies are made on Linux alone")
def test_copies_are_made_before_a_progress_bar_starts_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    threads = []

    def items() -> Iterator[int]:
        threads.append(threading.active_count())
        yield from range(3)

    before = threading.active_count()
    assert list(progress(items(), "count", 3)) == [0, 1, 2]
    assert threads == [before]
    assert list(progress(range(0), "nothing")) == []
