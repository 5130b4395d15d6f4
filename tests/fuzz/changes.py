"""Damage to files and messages: bits flipped, ends cut off, wrong lengths, parts moved; seeds of sound."""

import io
import os
import random
import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

Test = TypeVar("Test", bound=Callable[..., None])

Change = tuple[str, int, int]
"""What is done, about where (taken modulo the length), and with which number."""

KINDS = ("flip", "byte", "number", "cut", "drop", "repeat", "splice", "insert", "text", "text")
TEXTS = (
    b"nan",
    b"inf",
    b"-1",
    b"1e999",
    b"0",
    b"9" * 400,
    b"null",
    b"true",
    b"1_0",
    b"0x10",
    b'"',
    b"'",
    b",",
)
TEXTS += (
    b"\n",
    b"\r",
    b"\t",
    b";",
    b"[",
    b"]",
    b"{}",
    b"[" * 2000,
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b": ",
    b"&a",
    b"*a",
)
TEXTS += (
    b"<<: *a\n",
    b"!!python/object/apply:os.system [true]",
    b"../../x",
    b"NA",
    b"1 days",
    b"\xe2\x80\xae",
    b"=1+1",
)
# Lengths and counts that programs write for "unknown", that overflow, or that are off by one.
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2_000_000_000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE)
NUMBERS += (0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
_HEAD = 256  # bytes in which headers lie: half of all changes are made there
_LONG_RUN = "AFFETTO_FUZZ"  # how many examples each test has; a few where it is not set


def changes(most: int = 5) -> st.SearchStrategy[list[Change]]:
    """Returns lists of changes."""
    numbers = st.sampled_from(NUMBERS) | st.integers(0, 255)
    change = st.tuples(st.sampled_from(KINDS), st.integers(0, 1 << 20), numbers)
    return st.lists(change, min_size=1, max_size=most)


def chosen_changes(chance: random.Random, most: int = 5) -> list[Change]:
    """Returns changes without hypothesis, for long series."""
    count = chance.randint(1, most)
    return [
        (chance.choice(KINDS), chance.randrange(1 << 20), chance.choice((*NUMBERS, chance.randrange(256))))
        for _ in range(count)
    ]


def changed(content: bytes, done: Sequence[Change], other: bytes = b"") -> bytes:
    """Returns the content after changes; ``other`` is what parts are taken from."""
    made = bytearray(content)
    for kind, where, number in done:
        place = (where >> 1) % max(1, min(len(made), _HEAD) if where & 1 else len(made))
        length = 1 + number % 4096
        if kind == "flip" and made:
            made[place] ^= 1 << number % 8
        elif kind == "byte" and made:
            made[place] = number & 0xFF
        elif kind == "number":
            size, order = ((2, "little"), (2, "big"), (4, "little"), (4, "big"), (8, "little"), (8, "big"))[
                where % 6
            ]
            made[place : place + size] = (number & (1 << 8 * size) - 1).to_bytes(size, order)
        elif kind == "cut":
            del made[place:]
        elif kind == "drop":
            del made[place : place + length]
        elif kind == "repeat":
            made[place:place] = made[place : place + length]
        elif kind == "splice":
            begin = number % max(1, len(other))
            made[place : place + length] = other[begin : begin + length]
        elif kind == "text":
            made[place : place + where // 16 % 4] = TEXTS[number % len(TEXTS)]
        elif kind == "insert":
            made[place:place] = struct.pack("<Q", number)[: 1 + where % 8]
    return bytes(made)


def fuzzed(examples: int, at_once: int = 1, **strategies: Any) -> Callable[[Test], Test]:
    """Gives a test so many examples, the same ones; ``AFFETTO_FUZZ`` asks for another number of others.

    An example holds ``at_once`` of what is counted by ``AFFETTO_FUZZ``.
    """
    asked = -(-int(os.environ.get(_LONG_RUN, "0")) // at_once)

    def decorate(test: Test) -> Test:
        wanted = settings(
            max_examples=asked or examples,
            derandomize=not asked,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        return wanted(given(**strategies)(test))  # type: ignore[return-value]

    return decorate


def sound(seconds: float = 0.4, rate: int = 16_000) -> Any:
    """Returns a tone in noise, ``(S,)``."""
    times = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal(len(times))
    return (0.2 * np.sin(2 * np.pi * 150 * times) + 0.05 * noise).astype(np.float32)


_FORMATS = {
    "wav": "PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ALAW ULAW IMA_ADPCM MS_ADPCM GSM610 G721_32",
    **{"flac": "PCM_16 PCM_24", "mp3": "MPEG_LAYER_III", "ogg": "VORBIS OPUS", "aiff": "PCM_16 FLOAT ULAW"},
    **{"au": "PCM_16 ULAW G721_32", "caf": "PCM_16 ALAC_16", "w64": "PCM_16", "rf64": "PCM_16"},
    **{"nist": "PCM_16", "voc": "PCM_16", "ircam": "PCM_16"},
}


def recordings() -> dict[str, bytes]:
    """Returns a short recording in each format, by a name of a file; some only where PyAV is."""
    made = {}
    for kind, subtypes in _FORMATS.items():
        for subtype in subtypes.split():
            for channels in (1, 2):
                if channels == 2 and subtype not in ("PCM_16", "VORBIS", "MPEG_LAYER_III"):
                    continue
                samples = np.stack(channels * [sound()], 1)
                buffer = io.BytesIO()
                soundfile.write(buffer, samples, 16_000, format=kind.upper(), subtype=subtype)
                name = {"rf64": "wav", "nist": "sph", "ircam": "snd"}.get(kind, kind)
                made[f"{kind}-{subtype}-{channels}.{name}".lower()] = buffer.getvalue()
    return made | _with_pyav()


def _with_pyav() -> dict[str, bytes]:
    try:
        import av
    except ImportError:
        return {}
    made = {}
    for kind, codec, suffix in (("mp4", "aac", "m4a"), ("adts", "aac", "aac"), ("webm", "libopus", "webm")):
        buffer = io.BytesIO()
        with av.open(buffer, "w", format=kind) as container:
            stream = container.add_stream(codec, rate=48_000, layout="mono")
            resampler = av.AudioResampler(stream.codec_context.format, "mono", 48_000, 1024)
            frame = av.AudioFrame.from_ndarray(sound(rate=48_000)[None], "fltp", "mono")
            frame.sample_rate = 48_000
            for part in (*resampler.resample(frame), None):
                container.mux(stream.encode(part))
        made[f"{kind}.{suffix}"] = buffer.getvalue()
    return made
