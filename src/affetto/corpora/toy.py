"""A corpus that needs no download: synthetic speakers, synthetic sentences, four emotions and neutral speech.

A glottal source drives four resonators whose frequencies move from vowel to vowel. Every speaker has a
vocal-tract length, a pitch, a tempo and a voice of their own; an emotion shifts pitch, tempo, effort, jitter,
breath and tremor. Shifts vary from take to take, and from speaker to speaker, about as much as they differ
from one another, so that a recogniser has to learn what is shared.
"""

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy.signal import lfilter, sosfilt

from affetto.audio import SAMPLE_RATE
from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import About, collect, find_audio
from affetto.errors import ManifestError
from affetto.progress import progress
from affetto.runs import atomic_write

ABOUT = About(
    name="toy",
    title="synthetic speech-like corpus, made on the spot where the folder holds none",
    classes="anger fear happiness neutral sadness",
)
_FILE = re.compile(r"([fm]\d\d)_s(\d\d)_([a-z]+)_t(\d\d)")
_BLOCK = 160  # samples over which a resonator stands still: 10 ms

_Sound = NDArray[np.float64]
_Chance = np.random.Generator


class Mood(NamedTuple):
    """How an emotion moves a voice, relative to the speaker's own."""

    pitch: float  # semitones up
    span: float  # factor on the movement of the pitch
    tempo: float  # factor on the speed
    effort: float  # dB by which the level rises, and the tilt of the source flattens
    roughness: float  # jitter and shimmer, as a share of the period
    breath: float  # share of noise in the source
    slope: float  # semitones that the pitch gains from beginning to end
    tremor: float  # dB by which the level trembles, five to seven times a second


MOODS = {
    "anger": Mood(2.5, 1.35, 1.12, 6.0, 0.022, 0.04, -1.0, 0.5),
    "fear": Mood(4.0, 0.80, 1.15, 0.5, 0.026, 0.12, 1.5, 4.0),
    "happiness": Mood(3.5, 1.50, 1.05, 3.5, 0.010, 0.06, 2.5, 0.5),
    "neutral": Mood(0.0, 1.00, 1.00, 0.0, 0.008, 0.05, -2.0, 0.5),
    "sadness": Mood(-0.5, 0.65, 0.86, -4.0, 0.012, 0.14, -3.0, 1.5),
}
_VARIATION = Mood(1.6, 0.22, 0.09, 2.6, 0.006, 0.04, 1.5, 1.0)
_NOTHING = Mood(*([0.0] * len(Mood._fields)))

# Formants of an adult man in Hz (rounded textbook values), and of /l m n/, which are voiced too.
_VOICED = {
    **{"a": (730, 1090, 2440, 3400), "e": (530, 1840, 2480, 3500), "i": (280, 2250, 2900, 3600)},
    **{"o": (500, 900, 2400, 3300), "u": (310, 870, 2250, 3250)},
    **{"l": (360, 1050, 2650, 3300), "m": (250, 1050, 2250, 3250), "n": (270, 1400, 2400, 3300)},
}
_HISS = {"s": (4800.0, 0.20), "f": (2600.0, 0.10)}
_SENTENCES = (
    *("salinetoka", "nilumesatifo", "tokelanuso", "fasinolete"),
    *("kalisunemo", "mulatesiko", "lonefitusa", "sekunalito"),
)


class Speaker(NamedTuple):
    """A synthetic voice."""

    name: str
    gender: str
    tract: float  # factor on all formants
    habit: Mood  # added to every mood; its pitch is in Hz
    skew: dict[str, Mood]  # how this speaker's moods differ from everybody's, by mood


def scan(root: Path, **options: Any) -> Manifest:
    """Makes the manifest of a toy corpus; writes the corpus first, with ``options``, where there is none."""
    if not root.is_dir() or not find_audio(root):
        return write(root, **options)

    def row(path: Path) -> dict[str, Any]:
        parts = _FILE.fullmatch(path.stem)
        if parts is None or parts[3] not in MOODS or not 1 <= int(parts[2]) <= len(_SENTENCES):
            raise ManifestError("is no recording of the toy corpus")
        who, sentence, emotion, take = parts.groups()
        gender, text = "female" if who.startswith("f") else "male", _SENTENCES[int(sentence) - 1]
        return {"speaker": who, "emotion": emotion, "gender": gender, "text": text, "take": take}

    return collect(root, ABOUT, row)


def write(
    root: str | Path, speakers: int = 12, sentences: int = 4, takes: int = 2, seed: int = 0
) -> Manifest:
    """Writes a toy corpus as 16 kHz FLAC files; the same arguments give the same samples.

    Every other speaker is a woman; each speaks each sentence with each of the five emotions ``takes`` times.
    """
    root = Path(root)
    given = {"speakers": (speakers, 99), "sentences": (sentences, len(_SENTENCES)), "takes": (takes, 99)}
    for name, (value, most) in given.items():
        if not 1 <= value <= most:
            raise ManifestError(f"got {value} {name}; 1 to {most} are possible")
    total = speakers * sentences * len(MOODS) * takes
    for name, samples in progress(_clips(speakers, sentences, takes, seed), "make toy corpus", total):
        with atomic_write(root / f"{name}.flac") as temporary:
            soundfile.write(temporary, samples, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return scan(root)


def _clips(speakers: int, sentences: int, takes: int, seed: int) -> Iterator[tuple[str, _Sound]]:
    for number in range(speakers):
        who = _speaker(number, np.random.default_rng([seed, number]))
        for sentence, (place, mood), take in product(range(sentences), enumerate(MOODS), range(takes)):
            chance = np.random.default_rng([seed, number, sentence, place, take])
            name = f"{who.name}/{who.name}_s{sentence + 1:02d}_{mood}_t{take + 1:02d}"
            yield name, speak(who, _SENTENCES[sentence], mood, chance)


def _speaker(number: int, chance: _Chance) -> Speaker:
    female = number % 2 == 0
    tract = (1.17 if female else 1.0) * chance.uniform(0.93, 1.08)
    pitch = (205.0 if female else 118.0) * 2 ** chance.normal(0, 0.17)
    spread = _near(_NOTHING, 0.8, chance)
    habit = spread._replace(pitch=pitch, breath=abs(spread.breath), roughness=abs(spread.roughness))
    skew = {mood: _near(_NOTHING, 0.5, chance) for mood in MOODS}
    name = f"{'f' if female else 'm'}{number // 2 + 1:02d}"
    return Speaker(name, "female" if female else "male", tract, habit, skew)


def _near(mood: Mood, amount: float, chance: _Chance) -> Mood:
    pairs = zip(mood, _VARIATION, strict=True)
    return Mood(*(value + amount * size * chance.normal() for value, size in pairs))


def speak(who: Speaker, sentence: str, mood: str, chance: _Chance) -> _Sound:
    """Returns one take of a sentence (a letter for each sound), ``(S,)`` at 16 kHz within ±1."""
    now = _near(MOODS[mood], 0.6, chance)
    now = Mood(*np.add(now, who.skew[mood]))
    now = Mood(*np.add(now, who.habit._replace(pitch=0.0)))
    tempo, letters = max(now.tempo, 0.6), list(sentence)
    seconds = np.array([0.115 if letter in "aeiou" else 0.07 for letter in letters])
    seconds = seconds * chance.normal(1, 0.12, len(letters)).clip(0.6) / tempo
    seconds[-1] *= 1.5
    ends = np.cumsum(seconds)
    blocks = int(ends[-1] * SAMPLE_RATE / _BLOCK)
    time = (np.arange(blocks) + 0.5) * _BLOCK / SAMPLE_RATE
    place = np.searchsorted(ends, time).clip(0, len(letters) - 1)
    middles = ends - seconds / 2

    accents = np.interp(time, middles, chance.normal(0, 1.3, len(letters)))
    melody = now.pitch + max(now.span, 0.2) * accents + now.slope * (time / ends[-1] - 0.5)
    pitch = who.habit.pitch * 2 ** (melody / 12)
    rough, breath = max(now.roughness, 0.002), max(now.breath, 0.01)
    voiced = np.array([letter not in "sftk" for letter in letters])[place]
    voice = _source(pitch, voiced, now.effort, rough, breath, chance)
    formants = _formants(letters, middles, time) * who.tract
    speech = _resonate(voice, formants) + _noises(letters, place, chance)
    loudness = np.interp(time, middles, chance.normal(0, 1.5, len(letters)))
    trembling = np.sin(2 * np.pi * (chance.uniform(5, 7) * time + chance.uniform()))
    loudness += max(now.tremor, 0.0) * trembling
    edges = np.minimum(1, np.minimum(time, ends[-1] - time) / 0.03).clip(0)
    speech *= np.repeat(10 ** (loudness / 20) * edges, _BLOCK)
    speech *= 0.045 * 10 ** ((now.effort + chance.normal(0, 2.0)) / 20) / np.sqrt(np.mean(speech**2) + 1e-12)
    room = chance.normal(0, 10 ** (chance.uniform(-62, -50) / 20), len(speech) + SAMPLE_RATE // 5)
    room[SAMPLE_RATE // 10 :][: len(speech)] += speech
    return room / max(1.0, float(np.abs(room).max()) / 0.98)


def _source(
    pitch: _Sound, voiced: NDArray[np.bool_], effort: float, rough: float, breath: float, chance: _Chance
) -> _Sound:
    """Glottal flow derivative, the sharper the more effort, plus breath: ``(S,)``."""
    drift = np.repeat(1 + rough * 2 * chance.normal(size=len(pitch)), _BLOCK)
    phase = np.cumsum(np.repeat(pitch, _BLOCK) * drift / SAMPLE_RATE)
    cycle = np.floor(phase).astype(int)
    within = phase - cycle
    open_share = np.clip(0.62 - 0.018 * effort, 0.4, 0.8)
    shimmer = (1 + 3 * rough * chance.normal(size=cycle[-1] + 1))[cycle]
    opened = np.minimum(within / open_share, 1.0)
    # Flow x² - x³ while open (Klatt and Klatt, JASA 1990): its derivative falls to -1 and snaps back.
    pulse = np.where(opened < 1, opened * (2 - 3 * opened), 0.0) * shimmer
    pulse /= np.sqrt(np.mean(pulse**2)) + 1e-12
    noise = breath * chance.normal(size=len(pulse)) * (0.4 + (within < open_share))
    tilt = np.clip(0.72 - 0.045 * effort, 0.1, 0.95)
    gate = np.convolve(np.repeat(voiced, _BLOCK).astype(float), np.ones(160) / 160, mode="same")
    source: _Sound = lfilter([1 - tilt], [1, -tilt], pulse + noise) * gate
    return source


def _formants(letters: list[str], middles: _Sound, time: _Sound) -> _Sound:
    """Formant tracks, ``(blocks, 4)``: straight from the middle of one voiced sound to that of the next."""
    known = [place for place, letter in enumerate(letters) if letter in _VOICED]
    targets = np.array([_VOICED[letters[place]] for place in known], dtype=float)
    return np.stack([np.interp(time, middles[known], track) for track in targets.T], axis=1)


def _resonate(source: _Sound, formants: _Sound) -> _Sound:
    """Sends the source through resonators that stand still for 10 ms at a time and keep their state."""
    radius = np.exp(-np.pi * np.array([70.0, 100.0, 140.0, 220.0]) / SAMPLE_RATE)
    turn = -2 * radius * np.cos(2 * np.pi * np.minimum(formants, 7200) / SAMPLE_RATE)
    sections = np.zeros((*formants.shape, 6))
    sections[..., 0] = 1 + turn + radius**2
    sections[..., 3], sections[..., 4], sections[..., 5] = 1, turn, radius**2
    state, parts = np.zeros((4, 2)), []
    for section, part in zip(sections, source.reshape(-1, _BLOCK), strict=True):
        filtered, state = sosfilt(section, part, zi=state)
        parts.append(filtered)
    speech: _Sound = np.concatenate(parts)
    speech /= np.sqrt(np.mean(speech**2)) + 1e-12
    return speech


def _noises(letters: list[str], place: NDArray[np.int_], chance: _Chance) -> _Sound:
    """Hiss and bursts of the unvoiced sounds, ``(S,)``."""
    noise = chance.normal(size=len(place) * _BLOCK)
    out = np.zeros_like(noise)
    for letter, (centre, level) in _HISS.items():
        where = np.repeat(np.array(letters)[place] == letter, _BLOCK)
        radius, turn = 0.8, 2 * np.pi * centre / SAMPLE_RATE
        out += level * where * lfilter([1, 0, -1], [1, -2 * radius * np.cos(turn), radius**2], noise)
    for sound in (index for index, letter in enumerate(letters) if letter in "tk"):
        blocks = np.flatnonzero(place == sound)
        if len(blocks) > 2:
            burst = slice(blocks[-2] * _BLOCK, (blocks[-1] + 1) * _BLOCK)
            out[burst] += 0.8 * noise[burst] * np.linspace(1, 0, 2 * _BLOCK)
    return out
