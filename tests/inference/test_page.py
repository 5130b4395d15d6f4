"""The page in a real browser: heard, read, gone through by keyboard, downloaded, on narrow screens."""

import base64
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from affetto.inference import page as pages
from affetto.inference.page import write_page
from affetto.inference.sources import Clip

CHROMIUM = shutil.which("chromium")
browsed = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
LABELS = ["anger", "neutral"]
ODD = "Zoë </script><b>'\"&"


def row(start: float, end: float, label: str | None, file: str, **more: Any) -> dict[str, Any]:
    sure = None if label in (None, "unknown") else 0.75
    shares = {f"p_{name}": sure for name in LABELS}
    why = {
        "withheld": "no speech" if label == "unknown" else None,
        "error": None if label else f"{file}: gone",
    }
    return {
        "file": file,
        "start": start,
        "end": end,
        "label": label,
        "confidence": sure,
        **shares,
        **why,
        **more,
    }


@pytest.fixture
def call(tmp_path: Path) -> tuple[Path, list[dict[str, Any]]]:
    """Three seconds of two speakers."""
    tone = np.sin(np.arange(48_000) / 16_000 * 440) * np.linspace(0, 0.5, 48_000)
    soundfile.write(tmp_path / "a call.wav", tone, 16_000)
    name = str(tmp_path / "a call.wav")
    rows = [
        row(0, 1, "anger", name, speaker="anna"),
        row(1, 1.6, "neutral", name, speaker=ODD),
        row(1.6, 2.2, "unknown", name, speaker="anna"),
        row(2.2, 3, "anger", name, speaker="anna"),
    ]
    return tmp_path / "a call.wav", rows


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        started = player.chromium.launch(
            executable_path=CHROMIUM, args=["--autoplay-policy=no-user-gesture-required"]
        )
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Any]:
    """Opens a page at some width; fails where its console complains, or it asks another host."""
    complaints: list[str] = []
    views = []

    def open_page(path: Path, width: int = 1000) -> Any:
        view = browser.new_page(viewport={"width": width, "height": 700})
        view.on("console", lambda message: complaints.append(message.text))
        view.on("pageerror", lambda error: complaints.append(str(error)))
        view.on("request", lambda asked: complaints.extend(re.findall(r"^https?:.*", asked.url)))
        view.goto(path.as_uri())
        view.wait_for_function("() => player.readyState > 0 || !player.src")
        views.append(view)
        return view

    yield open_page
    for view in views:
        view.close()
    assert complaints == []


@browsed
def test_a_call_is_heard_by_mouse_and_keyboard(call: tuple[Path, list[dict[str, Any]]], opened: Any) -> None:
    sound, rows = call
    write_page(sound.with_name("page.html"), rows, LABELS, {str(sound): Clip(str(sound), sound)})
    view = opened(sound.with_name("page.html"))
    assert view.locator("h1").inner_text() == "a call.wav"
    assert view.evaluate("player.duration") == pytest.approx(3, abs=0.05)
    assert view.locator(".who").all_inner_texts() == ["anna", ODD]
    lanes = view.get_by_role("group", name="anna", exact=True).get_by_role("button")
    assert lanes.count() == 3
    assert view.get_by_role("button", name="anna, 1.60 to 2.20 s, unknown, no speech").count() == 1
    view.get_by_role("button", name="Play a call.wav, 1.00 to 1.60 s").click()
    view.wait_for_function("() => player.paused && player.currentTime >= 1.6")  # at the end of the segment
    assert view.evaluate("player.currentTime") < 2.1
    lanes.first.focus()
    view.keyboard.press("ArrowRight")
    view.keyboard.press("End")
    assert view.evaluate("document.activeElement.ariaLabel") == "anna, 2.20 to 3.00 s, anger, 75 percent"
    view.keyboard.press("ArrowDown")
    assert view.evaluate("document.activeElement.ariaLabel").startswith(f"{ODD}, 1.00 to 1.60 s, neutral")
    view.keyboard.press("Enter")
    view.wait_for_function("() => !player.paused && player.currentTime > 1")
    assert view.locator("tr.on").count() == 1
    view.keyboard.press("Escape")
    assert view.evaluate("player.paused")
    with view.expect_download() as loaded:
        view.get_by_role("link", name="a call.TextGrid").click()
    assert 'text = "neutral"' in loaded.value.path().read_text(encoding="utf-8")
    with view.expect_download() as loaded:
        view.get_by_role("link", name="a call.csv").click()
    assert len(loaded.value.path().read_text(encoding="utf-8").splitlines()) == 5


@browsed
def test_several_recordings_are_chosen_and_fit_a_narrow_screen(
    call: tuple[Path, list[dict[str, Any]]], opened: Any
) -> None:
    sound, rows = call
    other = sound.with_name("b.flac")
    soundfile.write(other, np.zeros(16_000), 16_000)
    rows += [row(0, 1, "unknown", str(other), speaker=None), row(0, 0, None, "c.wav", speaker=None)]
    out = sound.with_name("page.html")
    write_page(out, rows, LABELS, {str(each): Clip(str(each), each) for each in (sound, other)})
    view = opened(out, 360)
    assert view.evaluate("document.documentElement.scrollWidth") == 360
    assert view.locator("h1").inner_text() == f"{sound.parent.name}: 2 recordings"
    assert "Could not be read: c.wav: gone" in view.locator(".alarm").first.inner_text()
    view.get_by_label("Recording", exact=True).first.select_option("b.flac")
    view.wait_for_function("() => player.duration < 1.1")
    assert view.locator(".lane button").count() == 1
    view.get_by_role("button", name="Play a call.wav, 2.20 to 3.00 s").press("Enter")  # of the other one
    view.wait_for_function("() => player.duration > 2.9 && player.currentTime > 2.2")
    assert view.locator("#which").input_value() == "0"
    assert view.get_by_role("link").all_inner_texts() == ["emotions.csv", "emotions.rttm", "emotions.json"]


@browsed
def test_sound_that_does_not_fit_is_linked(
    call: tuple[Path, list[dict[str, Any]]], opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "MOST_BYTES", 100)
    sound, rows = call
    out = sound.parent / "pages" / "page.html"
    write_page(out, rows, LABELS, {str(sound): Clip(str(sound), sound)})
    view = opened(out)
    assert view.evaluate("player.src").endswith("/a%20call.wav")
    assert view.evaluate("player.duration") == pytest.approx(3, abs=0.05)
    write_page(out, rows, LABELS, {str(sound): Clip(str(sound), sound.read_bytes())})
    assert opened(out).locator("#silent").inner_text() == "The sound of this recording is not in the page."


def test_the_sound_in_the_page_is_the_recording(
    call: tuple[Path, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, rows = call
    out = sound.with_name("page.html")
    truth, _ = soundfile.read(sound)
    for kind in ("ogg", "wav"):
        write_page(out, rows, LABELS, {str(sound): Clip(str(sound), (truth, 16_000))})
        html = out.read_text(encoding="utf-8")
        [(found, data)] = re.findall(r'id="sound-0" data-type="audio/(\w+)">([^<]*)<', html)
        out.with_suffix(f".{kind}").write_bytes(base64.b64decode(data))
        read, rate = soundfile.read(out.with_suffix(f".{kind}"))
        assert (found, rate, len(read)) == (kind, 16_000, 48_000)
        assert np.abs(read - truth).max() < 0.05
        monkeypatch.setattr(soundfile, "check_format", lambda *_: False)
    [content] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', html)
    [recording] = json.loads(content)["recordings"]
    assert recording["peaks"][-1] == 100
    assert recording["peaks"] == sorted(recording["peaks"])  # it grows louder
    assert html.count("</script>") == 3
    assert not re.search(r"https?://(?!www\.w3\.org)", html)
