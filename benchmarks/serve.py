"""What ``affetto serve`` bears: speed, latency, load, leaks and live sessions, over the loopback alone.

    python benchmarks/serve.py --audio FOLDER
    python benchmarks/serve.py --audio FOLDER --only speed sessions

The server is a process of its own with one thread a core; its clients are this process, and need cores too.
``speed`` sends the same files to the server and to ``affetto.predict`` with as many workers, in turns, and
then files of 3 s at half the rate that the server reached, at random times. ``load`` sends 1,000 uploads at
once, a third of them bad in five ways, and asks again where the server says that it is busy. ``leaks`` sends
10,000 short ones and compares memory, threads and open files with those after the first tenth. ``fuzz`` does
so with 10,000 requests and 10,000 sessions that tests/fuzz damages, 64 at once. ``sessions``
runs live streams in real time, begun at random moments, in frames of 100 ms, and measures from the end
of each window to its result.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from affetto.audio import SAMPLE_RATE, decode, to_int16
from affetto.corpora.scanning import find_audio
from affetto.inference import Recogniser
from affetto.parallel import cores

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fuzz"))
from changes import chosen_changes
from clients import damaged_request, damaged_session, exchanged, statuses

PREDICT = """
import json, resource, sys, time
from affetto.inference import Recogniser, predict
recogniser = Recogniser.from_pretrained("small", device="cpu")
began, worked = time.perf_counter(), time.process_time()
predict(recogniser, sys.argv[3:], sys.argv[1], workers=int(sys.argv[2]))
copies = resource.getrusage(resource.RUSAGE_CHILDREN)
worked = time.process_time() - worked + copies.ru_utime + copies.ru_stime
print(json.dumps([time.perf_counter() - began, worked]))
"""
BOUNDARY = b"affetto"
GOOD, TRUNCATED, NO_SOUND, HUGE, SLOW, CUT = "good", "truncated", "no sound", "huge", "slow", "cut off"
EXPECTED = {TRUNCATED: (415, 422), NO_SOUND: (415,), HUGE: (413,), SLOW: (408,)}


class Server:
    """A server in a process of its own, whose temporary files are in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.log = folder.with_suffix(".log")
        command = [sys.executable, "-m", "affetto", "serve", "--port", "0"]
        environment = {**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True
            )
        assert self.process.stdout is not None
        found = re.search(r":(\d+)$", self.process.stdout.readline().strip())
        assert found is not None
        self.port = int(found[1])

    def seconds(self) -> float:
        """Processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def held(self) -> dict[str, float]:
        """Memory in MiB, threads, open files, and files in the folder."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        numbers = {name: int(value) for name, value in re.findall(r"(\w+):\s+(\d+)", status)}
        return {
            "memory, MiB": numbers["VmRSS"] / 1024,
            "threads": numbers["Threads"],
            "open files": len(os.listdir(f"/proc/{self.process.pid}/fd")),
            "temporary files": len(list(self.folder.rglob("*"))),
        }


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    server = Server(folder)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.wait(30)


def form(content: bytes, **fields: str) -> bytes:
    parts = [
        f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()
        for name, value in fields.items()
    ]
    parts.append(b'Content-Disposition: form-data; name="file"; filename="a.flac"\r\n\r\n' + content)
    return b"".join(b"--%s\r\n%s\r\n" % (BOUNDARY, part) for part in parts) + b"--%s--\r\n" % BOUNDARY


def head(length: int) -> bytes:
    return (
        "POST /v1/audio/emotions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], Any]:
    """Reads an answer: status, headers, content."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return int(lines[0].split()[1]), headers, json.loads(body) if body else None


class Client:
    """One connection that is kept."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, body: bytes) -> tuple[int, dict[str, str], Any]:
        kept = self.streams is not None
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        try:
            writer.write(head(len(body)) + body)
            await writer.drain()
            found = await answer(reader)
        except (ConnectionError, asyncio.IncompleteReadError):
            await self.close()
            if not kept:  # the server closes connections that were idle for some seconds
                raise
            return await self.post(body)
        if found[1].get("connection") == "close":
            await self.close()
        return found

    async def close(self) -> None:
        if self.streams:
            self.streams[1].close()
            self.streams = None


async def through(port: int, bodies: list[bytes], connections: int) -> list[float]:
    """Sends bodies over some connections; returns the latency of each."""
    queue, latencies = list(enumerate(bodies)), [0.0] * len(bodies)

    async def work() -> None:
        client = Client(port)
        while queue:
            number, body = queue.pop()
            began = time.perf_counter()
            status, _, content = await client.post(body)
            assert status == 200, (status, content)
            latencies[number] = time.perf_counter() - began
        await client.close()

    await asyncio.gather(*(work() for _ in range(connections)))
    return latencies


async def at_random(port: int, bodies: list[bytes], rate: float) -> list[float]:
    """Sends bodies at random times, so many a second on the average; returns the latency of each."""
    idle = [Client(port) for _ in range(64)]
    generator, latencies = random.Random(0), []

    async def send(body: bytes) -> None:
        began = time.perf_counter()
        client = idle.pop() if idle else Client(port)
        status, _, content = await client.post(body)
        assert status == 200, (status, content)
        latencies.append(time.perf_counter() - began)
        idle.append(client)

    tasks = []
    for body in bodies:
        tasks.append(asyncio.create_task(send(body)))
        await asyncio.sleep(generator.expovariate(rate))
    await asyncio.gather(*tasks)
    return latencies


def speed(server: Server, files: list[Path], threes: list[bytes], folder: Path, rounds: int) -> list[str]:
    bodies = [form(path.read_bytes()) for path in files]
    asyncio.run(through(server.port, bodies[:50], 4))
    rates: dict[str, list[float]] = {"predict": [], "serve": []}
    worked: dict[str, list[float]] = {"predict": [], "serve": []}
    for number in range(rounds):
        command = [
            sys.executable,
            "-c",
            PREDICT,
            str(folder / f"{number}.csv"),
            str(cores()),
            *map(str, files),
        ]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        spent, used = json.loads(said)
        rates["predict"].append(len(files) / spent)
        worked["predict"].append(used)
        began, used = time.perf_counter(), server.seconds()
        asyncio.run(through(server.port, bodies, 8 * cores()))
        rates["serve"].append(len(files) / (time.perf_counter() - began))
        worked["serve"].append(server.seconds() - used)
    fast = {name: statistics.median(each) for name, each in rates.items()}
    cost = {name: 1000 * statistics.median(each) / len(files) for name, each in worked.items()}
    own = asyncio.run(at_random(server.port, threes, fast["serve"] / 2))
    alone = asyncio.run(through(server.port, threes[:40], 1))
    p50, p95 = (1000 * float(np.percentile(own, part)) for part in (50, 95))
    return [
        f"{len(files)} files, {rounds} rounds in turns, medians; `predict` includes writing its table.",
        "",
        "| | files a second | processor time a file, ms |",
        "|---|---:|---:|",
        *(f"| {name} | {fast[name]:.1f} | {cost[name]:.1f} |" for name in fast),
        f"| ratio, serve over predict | {fast['serve'] / fast['predict']:.2f} (bar: 0.8) | "
        f"{cost['serve'] / cost['predict']:.2f} |",
        "",
        f"{len(threes)} files of 3 s at random times, {fast['serve'] / 2:.1f} a second: p50 {p50:.0f} ms, "
        f"p95 {p95:.0f} ms (bar: 300); one at a time {1000 * statistics.median(alone):.0f} ms.",
    ]


def load(server: Server, files: list[Path], count: int) -> list[str]:
    """Sends good and bad uploads at once."""
    recogniser = Recogniser.from_pretrained("small", device="cpu")
    right = [row["confidence"] for row in recogniser.files(files)]
    contents = [path.read_bytes() for path in files]
    kinds = [
        (TRUNCATED, NO_SOUND, HUGE, SLOW, CUT)[number // 3 % 5] if number % 3 == 2 else GOOD
        for number in range(count)
    ]
    tally: Counter[str] = Counter()
    waited: list[float] = []

    async def good(number: int) -> None:
        began = time.perf_counter()
        body = form(contents[number % len(files)])
        for _ in range(100):
            client = Client(server.port)
            status, headers, content = await client.post(body)
            await client.close()
            if status != 429:
                break
            tally["asked again"] += 1
            await asyncio.sleep(int(headers["retry-after"]))
        waited.append(time.perf_counter() - began)
        expected = right[number % len(files)]
        found = content["segments"][0]["confidence"] if status == 200 else -1
        same = found == expected or (found and expected and abs(found - expected) < 1e-4)
        tally["good, right" if status == 200 and same else f"good, wrong ({status})"] += 1

    async def bad(number: int, kind: str) -> None:
        content = contents[number % len(files)]
        body = form(
            {TRUNCATED: content[: len(content) // 2], NO_SOUND: b"no sound " * 500}.get(kind, content)
        )
        for _ in range(100):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                if kind == CUT:
                    writer.write(head(len(body)) + body[: len(body) // 2])
                    await writer.drain()
                    writer.close()
                    tally[kind] += 1
                    return
                writer.write(head(300_000_000 if kind == HUGE else len(body)))
                if kind == HUGE:
                    writer.write(bytes(1 << 20))
                writer.write(body[:500] if kind == SLOW else body)
                status, headers, _ = await answer(reader)
                if status != 429:
                    tally[f"{kind}, {'refused' if status in EXPECTED[kind] else f'wrong ({status})'}"] += 1
                    return
                tally["asked again"] += 1
                await asyncio.sleep(int(headers["retry-after"]))
            writer.close()
        tally[f"{kind}, not answered"] += 1

    async def everything() -> None:
        await asyncio.gather(*(good(n) if kind == GOOD else bad(n, kind) for n, kind in enumerate(kinds)))

    began = time.perf_counter()
    asyncio.run(everything())
    spent = time.perf_counter() - began
    return [
        f"{count} uploads at once, {kinds.count(GOOD)} of them good; all done after {spent:.0f} s.",
        "",
        "| | uploads |",
        "|---|---:|",
        *(f"| {name} | {number} |" for name, number in sorted(tally.items())),
    ]


def leaks(server: Server, shorts: list[bytes], count: int) -> list[str]:
    """Compares what the server holds after the first tenth with what it holds at the end."""
    asyncio.run(through(server.port, [shorts[n % len(shorts)] for n in range(count // 10)], 16))
    time.sleep(2)
    early = server.held()
    asyncio.run(through(server.port, [shorts[n % len(shorts)] for n in range(count - count // 10)], 16))
    time.sleep(2)
    late = server.held()
    rows = (f"| {name} | {early[name]:.0f} | {late[name]:.0f} |" for name in early)
    return [f"| after requests | {count // 10:,} | {count:,} |", "|---|---:|---:|", *rows]


def fuzz(server: Server, count: int) -> list[str]:
    """Sends damaged requests and sessions; a client leaves where the server waits for more."""
    chance, lines = random.Random(0), []
    for name, session in (("requests", False), ("sessions", True)):
        tally, held = Counter[str](), []
        for some in (count // 10, count - count // 10):
            places = [chance.randrange(1000) for _ in range(some)]
            contents = [
                damaged_session(place, chosen_changes(chance))
                if session
                else damaged_request(place, chance.random() < 0.5, chosen_changes(chance))
                for place in places
            ]
            for answer in exchanged(server.port, contents, 5.0, session):
                known = [] if answer is None else statuses(answer)
                closed = b"session.closed" in (answer or b"")
                tally[f"{known[-1] if known else 'no answer'}{', closed with a message' * closed}"] += 1
            time.sleep(2)
            held.append(server.held())
        kinds = ", ".join(f"{kind}: {number:,}" for kind, number in sorted(tally.items()))
        lines += [f"{count:,} damaged {name}. {kinds}.", ""]
        lines += [f"| after {name} | {count // 10:,} | {count:,} |", "|---|---:|---:|"]
        lines += [f"| {each} | {held[0][each]:.0f} | {held[1][each]:.0f} |" for each in held[0]]
        lines += [f"| lines of its log | | {len(server.log.read_text().splitlines())} |", ""]
    return lines


def sessions(server: Server, voice: NDArray[np.int16], count: int, seconds: float) -> list[str]:
    """Streams in real time."""
    from websockets.asyncio.client import connect

    frame, window, hop = SAMPLE_RATE // 10, 2.0, 1.0
    latencies: list[float] = []
    begins = np.random.default_rng(0).uniform(0, hop, count)
    wanted = round((seconds - window) / hop) + 1
    tally: Counter[str] = Counter()

    async def session(number: int) -> None:
        await asyncio.sleep(begins[number])  # people do not begin at the same moment
        first = number * SAMPLE_RATE % (len(voice) - round(seconds * SAMPLE_RATE))
        url = f"ws://127.0.0.1:{server.port}/v1/audio/emotions/stream"
        async with connect(url, compression=None, ping_interval=None) as stream:
            await stream.recv()
            sent: dict[int, float] = {}

            async def listen() -> None:
                while True:
                    message = json.loads(await stream.recv())
                    tally[message["type"]] += 1
                    if message["type"] == "session.closed":
                        return
                    if message["type"] == "result":
                        latencies.append(time.perf_counter() - sent[round(message["audio_end_ms"])])

            listening = asyncio.create_task(listen())
            began = time.perf_counter()
            for place in range(round(seconds * 10)):
                await asyncio.sleep(began + place / 10 - time.perf_counter())
                sent[100 * (place + 1)] = time.perf_counter()
                await stream.send(voice[first + place * frame :][:frame].tobytes())
            await stream.send('{"type": "session.end"}')
            await listening

    async def everything() -> None:
        await asyncio.gather(*(session(number) for number in range(count)))

    used, began = server.seconds(), time.perf_counter()
    asyncio.run(everything())
    busy = (server.seconds() - used) / (time.perf_counter() - began)
    p50, p95, most = (1000 * float(np.percentile(latencies, part)) for part in (50, 95, 100))
    return [
        f"{count} sessions of {seconds:.0f} s, windows of {window:g} s every {hop:g} s: "
        f"{len(latencies)} results of {count * wanted}; {tally['session.behind']} times behind; "
        f"the server took {busy:.2f} cores.",
        f"From the end of a window to its result: p50 {p50:.0f} ms, p95 {p95:.0f} ms (bar: 150), "
        f"at most {most:.0f} ms.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--audio", type=Path, required=True, help="folder of recordings of a few seconds")
    parser.add_argument("--files", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--only", nargs="+", default=["speed", "load", "leaks", "fuzz", "sessions"])
    given = parser.parse_args()
    found = sorted(find_audio(given.audio))
    files = random.Random(0).sample(found, given.files)
    voices = [decode(path) for path in files[:200]]
    joined = np.concatenate(voices)
    parts = {"speed": "Speed", "load": "Load", "leaks": "Leaks", "fuzz": "Fuzz", "sessions": "Sessions"}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)

        def cut(seconds: float, count: int) -> list[bytes]:
            bodies = []
            for number in range(count):
                samples = np.roll(joined, -number * 7919 * 5)[: round(seconds * SAMPLE_RATE)]
                file = folder / "cut.flac"
                soundfile.write(file, to_int16(samples), SAMPLE_RATE)
                bodies.append(form(file.read_bytes()))
            return bodies

        for number, name in enumerate(given.only):
            with serving(folder / f"server-{number}") as server:
                lines = {
                    "speed": lambda: speed(server, files, cut(3.0, 400), folder, given.rounds),
                    "load": lambda: load(server, files[:200], 1000),
                    "leaks": lambda: leaks(server, cut(0.5, 50), given.requests),
                    "fuzz": lambda: fuzz(server, given.requests),
                    "sessions": lambda: sessions(server, to_int16(joined), given.sessions, 30.0),
                }[name]()
            loads = " ".join(f"{each:.1f}" for each in os.getloadavg())
            print(
                f"\n## {parts[name]}\n",
                *lines,
                "",
                f"Load of the machine, {cores()} cores: {loads}.",
                sep="\n",
                flush=True,
            )


if __name__ == "__main__":
    main()
