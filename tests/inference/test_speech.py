"""What is no speech gets no emotion, and what is not sure can be withheld."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray

from affetto.audio import decode
from affetto.corpora import toy
from affetto.corpora.scanning import find_audio
from affetto.errors import AudioError, ConfigError
from affetto.evaluation.metrics import withholding
from affetto.inference import Recogniser
from affetto.models.classifier import ClassifierSettings, EmotionClassifier
from affetto.models.embedders import NetworkSettings
from affetto.models.logmel import CnnSettings
from affetto.models.speech import load_speech_detector
from helpers import recogniser_config

RATE = 16_000
Sound = NDArray[np.float32]


def recogniser(**changed: object) -> Recogniser:
    torch.manual_seed(0)
    embedder = NetworkSettings(encoder=CnnSettings(width=16, bins=16, blocks=1))
    shape = {"labels": ("anger", "neutral", "sadness"), "enrolment": True, **changed}
    classifier = EmotionClassifier(ClassifierSettings(embedder=embedder, **shape))
    return Recogniser(classifier, recogniser_config(classifier), "cpu")


@pytest.fixture(scope="module")
def spoken() -> list[Sound]:
    """Utterances of four synthetic voices in five moods."""
    return [samples.astype(np.float32) for _, samples in toy._clips(4, 2, 1, 0)]


def melody(generator: np.random.Generator, seconds: float = 3.0) -> Sound:
    """Notes of a scale with harmonics, each struck and fading, over a beat of noise."""
    samples = np.zeros(round(seconds * RATE))
    step = RATE // 4
    for place in range(0, len(samples) - step, step):
        times = np.arange(step) / RATE
        hertz = 220 * 2 ** (generator.choice([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
        note = sum(np.sin(2 * np.pi * hertz * k * times) / k for k in range(1, 8))
        samples[place : place + step] += note * np.exp(-4 * times)
        samples[place : place + 800] += 0.5 * generator.normal(size=800) * np.linspace(1, 0, 800)
    return (0.1 * samples).astype(np.float32)


def without_speech() -> dict[str, Sound]:
    """Sounds of about 3 s in which nobody speaks."""
    generator, count = np.random.default_rng(3), 3 * RATE
    times = np.arange(count) / RATE
    white = 0.1 * generator.normal(size=count)
    pink = np.fft.irfft(np.fft.rfft(white) / np.sqrt(np.arange(1, count // 2 + 2)))
    speech = next(iter(toy._clips(1, 1, 1, 0)))[1]
    found = {
        "silence": np.zeros(count),
        "dither": 3e-5 * generator.normal(size=count),
        "white": white,
        "pink": pink,
        "tone": 0.3 * np.sin(2 * np.pi * 440 * times),
        "low tone": 0.3 * np.sin(2 * np.pi * 120 * times),
        "hum": 0.1 * sum(np.sin(2 * np.pi * 50 * k * times) / k for k in range(1, 9)),
        "40 ms": speech[8000:8640],
        "antiphase": (np.stack([speech, -speech])).mean(0),
        **{f"melody {number}": melody(generator) for number in range(5)},
    }
    return {name: samples.astype(np.float32) for name, samples in found.items()}


def heard(sounds: list[Sound]) -> list[bool]:
    detector = load_speech_detector()
    return [
        bool(detector.hears(torch.from_numpy(each)[None], torch.tensor([len(each)]))[0]) for each in sounds
    ]


def test_speech_is_heard_at_any_level_and_over_a_telephone(spoken: list[Sound]) -> None:
    generator = np.random.default_rng(0)
    assert all(heard(spoken))
    assert all(heard([each * np.float32(0.01) for each in spoken]))
    assert all(heard([np.clip(each * 20, -1, 1) for each in spoken]))
    assert all(heard([each + np.float32(0.2) for each in spoken]))
    noisy = [each + 0.1 * each.std() * generator.normal(size=len(each)) for each in spoken]
    assert all(heard([each.astype(np.float32) for each in noisy]))


def test_silence_noise_tones_and_music_are_no_speech() -> None:
    sounds = without_speech()
    found = dict(zip(sounds, heard(list(sounds.values())), strict=True))
    assert not [name for name, speech in found.items() if speech]


def test_neither_padding_nor_what_goes_together_changes_a_score(spoken: list[Sound]) -> None:
    detector = load_speech_detector()
    lengths = torch.tensor([len(each) for each in spoken])
    waveforms = torch.zeros(len(spoken), int(lengths.max()) + 5000)
    for row, each in zip(waveforms, spoken, strict=True):
        row[: len(each)] = torch.from_numpy(each)
    together = detector(detector.features(waveforms, lengths))
    for score, each in zip(together, spoken, strict=True):
        alone = detector(detector.features(torch.from_numpy(each)[None], torch.tensor([len(each)])))[0]
        torch.testing.assert_close(score, alone, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("output", ["classes", "values"])
def test_no_speech_is_unknown_and_has_no_numbers(spoken: list[Sound], output: str) -> None:
    made = recogniser(output=output, enrolment=False)
    noise = without_speech()["white"]
    table = made.predict([(spoken[0], RATE), (noise, RATE)])
    assert isinstance(table, pd.DataFrame)
    numbers = table[made.format.predictions]
    assert numbers.notna().all(axis=1).tolist() == [True, False]
    assert table["withheld"].fillna("").tolist() == ["", "no speech"]
    assert table["error"].isna().all()
    if output == "classes":
        assert table["label"][1] == "unknown"
        assert table["confidence"].isna().tolist() == [False, True]
    assert made.predict(noise, RATE) == [{"label": "unknown", "score": 1.0}]
    made.detector = None
    assert len(made.predict(noise, RATE)) == 3


def test_windows_and_parts_are_judged_each_by_itself(spoken: list[Sound]) -> None:
    made, speech = recogniser(), np.tile(np.concatenate(spoken[:5]), 8)[: 30 * RATE]
    noise = np.tile(without_speech()["pink"], 20)[: 40 * RATE]
    timeline = made.timeline((np.concatenate([speech[: 6 * RATE], noise[: 6 * RATE]]), RATE), 2.0, 2.0)
    assert timeline["withheld"].isna().tolist() == [True] * 3 + [False] * 3
    # Of a long recording, parts without speech do not count.
    both, alone = (
        next(iter(made.files([(each, RATE)]))) for each in (np.concatenate([speech, noise]), speech)
    )
    assert both["p_anger"] == pytest.approx(alone["p_anger"], abs=1e-5)
    assert both["end"] == 70


def test_unsure_answers_are_withheld(spoken: list[Sound]) -> None:
    made = recogniser()
    sounds = [(each, RATE) for each in spoken[:8]]
    plain = pd.DataFrame(made.files(sounds))
    least = plain["confidence"].median()
    made.config["withholding"] = {"50%": {"confidence": least, "accuracy": 0.9}}
    for asked in (least, str(least), "50%"):
        table = pd.DataFrame(made.answering(withhold=asked).files(sounds))
        assert (table["withheld"] == "low confidence").tolist() == (plain["confidence"] < least).tolist()
        assert (table["label"] == "unknown").sum() == 4
        pd.testing.assert_frame_equal(table[made.format.predictions], plain[made.format.predictions])
    with pytest.raises(ConfigError, match="unknown share to withhold '30%'; allowed: 50%, a confidence"):
        made.answering(withhold="30%")
    for wrong in (1.5, "-1", float("nan")):
        with pytest.raises(ConfigError, match="must be 0 to 1"):
            made.answering(withhold=wrong)
    with pytest.raises(ConfigError, match="dimensions has no classes; leave withhold out"):
        recogniser(output="values", enrolment=False).answering(withhold=0.5)


def test_what_withholding_is_worth() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.uniform(size=10_000)
    found = withholding(confidence, generator.uniform(size=10_000) < confidence)
    assert list(found) == ["10%", "20%", "30%", "40%", "50%"]
    assert found["20%"] == pytest.approx({"confidence": 0.2, "accuracy": 0.6}, abs=0.02)


def test_enrolled_silence_is_left_out(spoken: list[Sound]) -> None:
    made, silence = recogniser(), (np.zeros(RATE, np.float32), RATE)
    sounds = [(each, RATE) for each in spoken[:3]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expected = made.enrol(sounds)
    with pytest.warns(UserWarning, match=r"without speech are left out: 2 \(recording 1\) of 4"):
        found = made.enrol([sounds[0], silence, *sounds[1:]])
    assert found.utterances == 3
    torch.testing.assert_close(found.offset, expected.offset, atol=1e-4, rtol=1e-4)
    with pytest.raises(AudioError, match="none of the 2 enrolled utterances holds speech"):
        made.enrol([silence, silence])
    one = made.enrol(sounds[:1])  # little is known of the speaker, and little is taken away
    assert one.utterances == 1
    assert one.offset.isfinite().all()


@pytest.mark.corpora
def test_real_speech_is_not_withheld(corpora_root: Path) -> None:
    detector = load_speech_detector()
    for corpus in ("crema-d", "ravdess", "emodb"):
        sounds = [torch.from_numpy(decode(path)) for path in find_audio(corpora_root / corpus)[::25][:60]]
        found = [bool(detector.hears(each[None], torch.tensor([len(each)]))[0]) for each in sounds]
        assert np.mean(found) > 0.98, corpus
