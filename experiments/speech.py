"""Trains the network that tells speech from other sounds, which comes with the package.

    python experiments/speech.py --manifest crema-d.csv

Speech is that of the training speakers of ``crema-d-6-evar``: resampled, coloured, gated, echoed and mixed
with other sounds. Everything else is synthesised: noise of random spectra and envelopes, notes and chords of
random partials, percussion, calls, machines, clicks, beeps, and speech with random phases. The same command
gives the same weights.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from scipy import signal
from sklearn.neural_network import MLPClassifier

import affetto.models.speech as speech
from affetto.audio import SAMPLE_RATE, decode
from affetto.corpora.manifest import Manifest
from affetto.protocols.protocol import load_protocol

Sound = NDArray[np.float64]
Chance = np.random.Generator

UTTERANCES, POOL, EXAMPLES = 2500, 1800, 9000
DECAY, LEVEL_STEP = 10.0, 320
MARGIN = 0.5  # of the threshold under the lowest score of a dev utterance, for other corpora


def main() -> None:
    """Trains the network and writes its weights."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path(speech.__file__).with_name("speech.safetensors"))
    given = parser.parse_args()
    chance = np.random.default_rng(0)
    protocol = load_protocol("crema-d-6-evar")
    manifest = protocol.select(Manifest.read(given.manifest))
    row = {key: number for number, key in enumerate(manifest.table["key"])}
    fold = protocol.folds(manifest)[0]

    def some(keys: Sequence[str]) -> list[NDArray[np.float32]]:
        return [decode(manifest.path(row[key])) for key in chance.permutation(np.array(keys))[:UTTERANCES]]

    spoken, dev = some(fold.train), some(fold.dev)
    count = round(speech.MOST_SECONDS * SAMPLE_RATE)
    pool = [other(chance, count, spoken).astype(np.float32) for _ in range(POOL)]
    detector = speech.SpeechDetector()
    truth = np.arange(EXAMPLES) % 2 == 1
    features = np.stack([described(chance, detector, spoken, pool, each) for each in truth])
    fit(detector, features, truth)
    with torch.no_grad():
        lowest = min(float(detector(features_of(detector, each[:count]))) for each in dev)
        detector.score.bias -= lowest - MARGIN
    tensors = {name: each.detach().contiguous() for name, each in detector.state_dict().items()}
    save_file(tensors, given.out)


def described(
    chance: Chance,
    detector: speech.SpeechDetector,
    spoken: list[NDArray[np.float32]],
    pool: list[NDArray[np.float32]],
    speaks: bool,
) -> NDArray[np.float32]:
    """Returns the features of an example of 0.4 to 4 s; one of speech holds at least 0.3 s of it."""
    while True:
        count = round(chance.uniform(0.4, speech.MOST_SECONDS) * SAMPLE_RATE)
        sound, seconds = example(chance, count, spoken, pool, speaks)
        if not speaks or seconds >= 0.3:
            return features_of(detector, sound.astype(np.float32))[0].numpy()


def features_of(detector: speech.SpeechDetector, sound: NDArray[np.float32]) -> torch.Tensor:
    """Returns the features of one sound, ``(1, D)``."""
    return detector.features(torch.from_numpy(sound)[None], torch.tensor([len(sound)]))


def fit(detector: speech.SpeechDetector, features: NDArray[np.float32], truth: NDArray[np.bool_]) -> None:
    """Fits the network to features ``(N, D)``."""
    detector.mean.copy_(torch.from_numpy(features.mean(0)))
    detector.deviation.copy_(torch.from_numpy(features.std(0)).clamp_min(1e-6))
    values = ((torch.from_numpy(features) - detector.mean) / detector.deviation).clamp(-2.5, 2.5).numpy()
    size = len(detector.hidden.bias)
    network = MLPClassifier((size,), alpha=DECAY, learning_rate_init=3e-3, max_iter=300, random_state=0)
    network.fit(values, truth)
    layers = zip((detector.hidden, detector.score), network.coefs_, network.intercepts_, strict=True)
    with torch.no_grad():
        for layer, weight, bias in layers:
            layer.weight.copy_(torch.from_numpy(weight.T))
            layer.bias.copy_(torch.from_numpy(bias))


def example(
    chance: Chance,
    count: int,
    spoken: list[NDArray[np.float32]],
    pool: list[NDArray[np.float32]],
    speaks: bool,
) -> tuple[Sound, float]:
    """Returns a sound, and how many seconds of speech can be heard in it."""
    heard = 0.0
    if speaks:
        voice = varied(chance, spoken[chance.integers(len(spoken))].astype(np.float64))
        within = placed(chance, voice, count)
        loudness = levels(within)
        audible = loudness > levels(voice).max() - 25
        sound = coloured(chance, within)
        if chance.random() < 0.55:
            noise, snr = drawn(chance, count, pool), chance.uniform(-2, 30)
            power = np.mean(voice**2) * sound.var() / (within.var() + 1e-12) * 10 ** (-snr / 10)
            sound = sound + noise / (noise.std() + 1e-9) * np.sqrt(power)
            audible &= loudness > 10 * np.log10(np.mean(voice**2) + 1e-12) - snr - 3
        heard = float(audible.sum()) * LEVEL_STEP / SAMPLE_RATE
    else:
        sound = coloured(chance, drawn(chance, count, pool))
    if chance.random() < 0.5:
        sound = sound + noise_of(chance, count) * db(chance.uniform(-80, -30)) * np.abs(sound).max()
    peak = np.abs(sound).max()
    if speaks or peak > 1e-2:
        sound = sound / max(peak, 1e-9) * db(chance.uniform(-50, 0))
    if chance.random() < 0.1:
        sound = np.clip(sound / max(np.abs(sound).max(), 1e-9) * db(chance.uniform(0, 20)), -1, 1)
    return sound + chance.choice([0, 1e-5]) * chance.normal(size=count), heard


def varied(chance: Chance, voice: Sound) -> Sound:
    """Makes an utterance faster or slower, and sometimes takes out what is quiet, as a gate does."""
    times = np.arange(0, len(voice) - 1, 2 ** chance.uniform(-0.35, 0.35))
    voice = np.interp(times, np.arange(len(voice)), voice)
    if chance.random() < 0.4:
        envelope = np.sqrt(np.convolve(voice**2, np.ones(480) / 480, "same"))
        least = db(-chance.uniform(25, 40)) * envelope.max()
        voice = voice * np.minimum(1, (envelope / max(least, 1e-9)) ** chance.uniform(1, 4))
    return voice


def placed(chance: Chance, voice: Sound, count: int) -> Sound:
    """Cuts a part out of an utterance, or puts it somewhere into silence."""
    if len(voice) > count:
        start = chance.integers(len(voice) - count + 1)
        return voice[start : start + count]
    start = chance.integers(count - len(voice) + 1)
    return np.pad(voice, (start, count - len(voice) - start))


def levels(sound: Sound) -> Sound:
    """Returns the level in dB every ``LEVEL_STEP`` samples."""
    return 10 * np.log10(np.convolve(sound**2, np.ones(512) / 512, "same")[::LEVEL_STEP] + 1e-12)


def coloured(chance: Chance, sound: Sound) -> Sound:
    """Sends a sound over a telephone, or through random filters and rooms."""
    kind = chance.random()
    if kind < 0.2:
        edges = [chance.uniform(100, 400), chance.uniform(2800, 4000)]
        filters = signal.butter(chance.integers(2, 6), edges, "band", fs=SAMPLE_RATE, output="sos")
        return np.asarray(signal.sosfilt(filters, sound))
    if kind < 0.6:
        sound = shaped(sound, chance.normal(0, chance.choice([3, 6, 10]), 5))
    if chance.random() < 0.25:
        size = round(chance.uniform(0.1, 0.6) * SAMPLE_RATE)
        room = chance.normal(size=size) * np.exp(-np.arange(size) / size * 6.9) * chance.uniform(0.02, 0.2)
        room[0] = 1
        sound = signal.fftconvolve(sound, room)[: len(sound)]
    return sound


def db(level: float) -> float:
    """Returns the factor of a level in dB."""
    return float(10 ** (level / 20))


def shaped(sound: Sound, gains: Sound) -> Sound:
    """Filters a sound by gains in dB at evenly spaced octaves from 20 Hz to 8 kHz."""
    hz = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
    curve = np.interp(np.log2(hz + 20), np.linspace(np.log2(20), 13, len(gains)), gains)
    return np.fft.irfft(np.fft.rfft(sound) * 10 ** (curve / 20), len(sound))


def drawn(chance: Chance, count: int, pool: list[NDArray[np.float32]]) -> Sound:
    """Draws a part of a sound of the pool, sometimes with another one."""
    sound, second = (pool[chance.integers(len(pool))].astype(np.float64) for _ in range(2))
    start = chance.integers(len(sound) - count + 1)
    sound, second = sound[start : start + count], second[:count]
    if chance.random() < 0.12:
        sound = sound + second / (second.std() + 1e-9) * sound.std() * db(chance.uniform(-20, 10))
    return sound


def other(chance: Chance, count: int, spoken: list[NDArray[np.float32]]) -> Sound:
    """Synthesises a sound without speech."""
    makers: list[Callable[[Chance, int], Sound]]
    makers = [noise_of, music, percussion, calls, machine, clicks, beeps, stillness]
    number = chance.choice(9, p=[0.2, 0.36, 0.09, 0.08, 0.09, 0.05, 0.06, 0.03, 0.04])
    if number < len(makers):
        return makers[number](chance, count)
    voice = np.resize(spoken[chance.integers(len(spoken))], count)
    size = np.abs(np.fft.rfft(voice))
    return np.fft.irfft(size * np.exp(2j * np.pi * chance.random(len(size))), count)


def noise_of(chance: Chance, count: int) -> Sound:
    """Makes noise of a random spectrum, steady, pulsing, or of a random envelope."""
    points = chance.integers(2, 14)
    gains = chance.normal(0, chance.uniform(0, 14), points)
    sound = shaped(chance.normal(size=count), gains - chance.uniform(-0.5, 1) * np.linspace(0, 30, points))
    sound, times, kind = sound / sound.std(), np.arange(count) / SAMPLE_RATE, chance.random()
    if kind < 0.25:
        wave = np.sin(np.pi * chance.uniform(0.5, 9) * times + chance.uniform(0, 3))
        return sound * np.abs(wave) ** chance.uniform(0.2, 4)
    if kind < 0.5:
        size = chance.integers(3, 25)
        places = np.sort(chance.uniform(0, times[-1], size))
        return sound * 10 ** (np.interp(times, places, chance.normal(0, 8, size)) / 20)
    return sound


def music(chance: Chance, count: int) -> Sound:
    """Makes up to three voices of notes or chords, in a scale or out of tune, sometimes with percussion."""
    sound = np.zeros(count + 4 * SAMPLE_RATE)
    beat, root = chance.uniform(0.2, 0.9), log_uniform(chance, 50, 500)
    for voice in range(chance.integers(1, 4)):
        partials, loud, gap = partials_of(chance), db(chance.uniform(-18, 0)), chance.uniform(0, 0.4)
        vibrato = chance.choice([0, 0, chance.uniform(0, 0.8)]), chance.uniform(3, 8)
        glide = chance.choice([0, 0, 0, chance.uniform(-6, 6)])
        together, octave, free = (
            chance.integers(1, 5) if voice else 1,
            2.0 ** chance.integers(-1, 3),
            chance.random() < 0.3,
        )
        place = round(chance.uniform(0, 0.3) * SAMPLE_RATE)
        while place < count:
            beats = chance.choice([0.25, 0.5, 0.5, 1, 1, 2, 4]) * (chance.uniform(0.7, 1.4) if free else 1)
            step = max(800, round(SAMPLE_RATE * beat * beats))
            for _ in range(together if chance.random() > gap else 0):
                semitones = (
                    chance.uniform(0, 14) if free else chance.choice([0, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 14])
                )
                size = min(round(step * chance.uniform(0.6, 1.5)), len(sound) - place)
                note = tone(chance, root * octave * 2 ** (semitones / 12), size, partials, vibrato, glide)
                sound[place : place + size] += loud * chance.uniform(0.4, 1) * note * struck(chance, size)
            place += step
    sound = sound[:count]
    if chance.random() < 0.5:
        sound = sound + percussion(chance, count) * db(chance.uniform(-12, 10)) * max(sound.std(), 1e-3)
    return sound


def tone(
    chance: Chance,
    hz: float,
    count: int,
    partials: list[tuple[float, float]],
    vibrato: tuple[float, float],
    glide: float,
) -> Sound:
    """Makes a tone; vibrato in semitones and Hz, glide in semitones a second."""
    times = np.arange(count) / SAMPLE_RATE
    bend = vibrato[0] * np.sin(2 * np.pi * vibrato[1] * times + chance.uniform(0, 6)) + glide * times
    phase = 2 * np.pi * np.cumsum(hz * 2 ** (bend / 12)) / SAMPLE_RATE
    sound = np.zeros(count)
    for number, size in partials:
        if hz * number < 7600:
            sound += size * np.sin(number * phase + chance.uniform(0, 6))
    return sound


def partials_of(chance: Chance) -> list[tuple[float, float]]:
    """Returns the partials of an instrument: their multiples of the lowest, and amplitudes."""
    if chance.random() < 0.15:
        return [(1.0, 1.0)]
    count, tilt = int(chance.integers(1, 25)), chance.uniform(0.3, 2.2)
    multiples = np.arange(1.0, count + 1) * chance.choice([1, 1, 1, 2])
    if chance.random() < 0.25:
        multiples = multiples ** chance.uniform(1, 1.15)
    if chance.random() < 0.2:
        multiples = 2 * np.arange(1.0, count + 1) - 1
    sizes = np.exp(chance.normal(0, chance.choice([0, chance.uniform(0.2, 1.5)]), count)) * multiples**-tilt
    return list(zip(multiples.tolist(), sizes.tolist(), strict=True))


def struck(chance: Chance, count: int) -> Sound:
    """Returns the envelope of a note: it begins, mostly fades, and is let go."""
    times = np.arange(count) / SAMPLE_RATE
    envelope = np.minimum(times / log_uniform(chance, 0.002, 0.12), 1)
    if chance.random() < 0.7:
        envelope = envelope * np.exp(-times / log_uniform(chance, 0.04, 2))
    end = min(count, round(SAMPLE_RATE * chance.uniform(0.005, 0.1)))
    envelope[count - end :] *= np.linspace(1, 0, end)
    return envelope


def percussion(chance: Chance, count: int) -> Sound:
    """Makes a pattern of up to four struck things: skins, noise, metal."""
    sound, step = np.zeros(count + SAMPLE_RATE), round(SAMPLE_RATE * chance.uniform(0.08, 0.5))
    late, things = chance.choice([0, chance.uniform(0, 0.5)]), []
    for _ in range(chance.integers(1, 5)):
        size = round(SAMPLE_RATE * log_uniform(chance, 0.01, 0.6))
        times, kind = np.arange(size) / SAMPLE_RATE, chance.random()
        if kind < 0.35:
            hz, drop = log_uniform(chance, 40, 400), 1 - np.exp(-times * chance.uniform(10, 60))
            thing = np.sin(2 * np.pi * (hz * times + chance.uniform(0, 6) * hz / 60 * drop))
        elif kind < 0.75:
            low = chance.uniform(50, 6000)
            edges = [low, min(7840, low * chance.uniform(1.2, 6))]
            filters = signal.butter(2, edges, "band", fs=SAMPLE_RATE, output="sos")
            thing = signal.sosfilt(filters, chance.normal(size=size))
            thing /= thing.std() + 1e-9
        else:
            thing = (
                sum(
                    np.sin(2 * np.pi * hz * times) for hz in chance.uniform(200, 7000, chance.integers(2, 12))
                )
                / 3
            )
        things.append(thing * np.exp(-np.arange(size) / size * chance.uniform(3, 9)) * chance.uniform(0.2, 1))
    pattern = chance.random((len(things), 8)) < chance.uniform(0.15, 0.7)
    for number, beat in enumerate(range(0, count, step)):
        for thing, struck_now in zip(things, pattern[:, number % 8], strict=True):
            if struck_now:
                place = min(max(0, round(beat + late * step * chance.normal())), count)
                sound[place : place + len(thing)] += thing[: len(sound) - place] * chance.uniform(0.5, 1)
    return sound[:count] / (sound[:count].std() + 1e-9)


def calls(chance: Chance, count: int) -> Sound:
    """Makes chirps and calls whose pitch moves."""
    sound = 1e-3 * chance.normal(size=count + SAMPLE_RATE)
    for _ in range(chance.integers(1, 14)):
        place, size = chance.integers(count), round(SAMPLE_RATE * log_uniform(chance, 0.03, 0.8))
        bends = np.interp(
            np.linspace(0, 1, size), np.linspace(0, 1, 4), chance.normal(0, chance.uniform(0, 1), 4)
        )
        hz = log_uniform(chance, 80, 5000) * 2**bends
        phase = 2 * np.pi * np.cumsum(hz) / SAMPLE_RATE
        partials = partials_of(chance) if chance.random() < 0.4 else [(1.0, 1.0)]
        call = np.zeros(size)
        for number, amplitude in partials:
            if hz.max() * number < 7800:
                call += amplitude * np.sin(number * phase)
        sound[place : place + size] += call * np.hanning(size) * chance.uniform(0.2, 1)
    return sound[:count]


def machine(chance: Chance, count: int) -> Sound:
    """Makes a pulse train of unsteady or sweeping rate, through resonances, with noise."""
    drift = np.exp(np.cumsum(chance.normal(0, chance.uniform(0, 0.01), count // 160 + 1)))
    hz, times = log_uniform(chance, 20, 300) * drift.repeat(160)[:count], np.arange(count) / SAMPLE_RATE
    if chance.random() < 0.3:
        swing = signal.sawtooth(2 * np.pi * chance.uniform(0.2, 4) * times, chance.uniform(0, 1))
        hz = 3 * hz * 2 ** (chance.uniform(0, 1) * swing)
    sound = (np.cumsum(hz) / SAMPLE_RATE % 1 < chance.uniform(0.02, 0.5)) * 1.0
    sound -= sound.mean()
    for _ in range(chance.integers(0, 4)):
        turn, radius = 2 * np.pi * chance.uniform(100, 6000) / SAMPLE_RATE, chance.uniform(0.8, 0.99)
        sound = signal.lfilter([1 - radius], [1, -2 * radius * np.cos(turn), radius**2], sound)
    sound = sound / (sound.std() + 1e-9) + db(chance.uniform(-40, 0)) * noise_of(chance, count)
    if chance.random() < 0.3:
        sound = sound * np.abs(np.sin(np.pi * chance.uniform(0.5, 8) * times)) ** chance.uniform(0.2, 3)
    return sound


def clicks(chance: Chance, count: int) -> Sound:
    """Makes clicks and knocks over quiet noise."""
    sound = db(chance.uniform(-60, -20)) * noise_of(chance, count + SAMPLE_RATE)
    for _ in range(chance.integers(1, 40)):
        place, size = chance.integers(count), chance.integers(5, 1500)
        fade = np.exp(-np.arange(size) / (size / 5)) * chance.uniform(0.1, 2)
        sound[place : place + size] += chance.normal(size=size) * fade
    return sound[:count]


def beeps(chance: Chance, count: int) -> Sound:
    """Makes up to three sines together, steady or switched on and off."""
    times = np.arange(count) / SAMPLE_RATE
    tones = [log_uniform(chance, 60, 5000) for _ in range(chance.integers(1, 4))]
    sound = np.sum([np.sin(2 * np.pi * hz * times) for hz in tones], axis=0)
    if chance.random() < 0.6:
        sound = sound * ((times * chance.uniform(0.5, 6) + chance.uniform()) % 1 < chance.uniform(0.2, 0.9))
    return sound + db(chance.uniform(-80, -5)) * chance.normal(size=count)


def stillness(chance: Chance, count: int) -> Sound:
    """Makes silence, or noise that can hardly be heard."""
    return np.asarray(chance.choice([0.0, 0.0, 1e-7, 1e-5, 1e-3]) * chance.normal(size=count))


def log_uniform(chance: Chance, low: float, high: float) -> float:
    """Draws a number between two, each factor as likely as any other."""
    return float(np.exp(chance.uniform(np.log(low), np.log(high))))


if __name__ == "__main__":
    main()
