"""The page, in a browser: a file, the microphone, the keyboard, a narrow screen."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from affetto import Recogniser
from servers import running, serving

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("no chromium", allow_module_level=True)

PAINT = """new Promise(done => new PerformanceObserver(
    list => list.getEntriesByName("first-contentful-paint").forEach(each => done(each.startTime))
).observe({type: "paint", buffered: true}))"""  # milliseconds until the first words are on the screen


@pytest.fixture(scope="module")
def chromium(wav: Path) -> Iterator[Any]:
    """A browser that takes a file for the sound of its microphone."""
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={wav}",
            ],
        )
        yield launched
        launched.close()


def opened(browser: Any, address: str, width: int = 1000) -> tuple[Any, list[str], list[str]]:
    """Opens the page; returns it, what its console complains about, and the hosts that it asks."""
    page = browser.new_page(viewport={"width": width, "height": 800})
    complaints: list[str] = []
    hosts: list[str] = []
    page.on(
        "console", lambda each: complaints.append(each.text) if each.type in ("error", "warning") else None
    )
    page.on("pageerror", lambda each: complaints.append(str(each)))
    page.on("request", lambda each: hosts.append(each.url.split("/")[2]) if "//" in each.url else None)
    page.goto(f"http://{address}/")
    return page, complaints, hosts


def test_the_page(recogniser: Recogniser, chromium: Any, wav: Path, tmp_path: Path) -> None:
    shown = os.environ.get("AFFETTO_SCREENSHOTS")
    with serving(recogniser) as service, running(service) as address:
        page, complaints, hosts = opened(chromium, address)
        assert page.evaluate(PAINT) < 1000
        page.set_input_files("#file", wav)
        page.wait_for_selector("#rows tr:nth-child(5)")
        rows = list(recogniser.files(wav, window=2, hop=1))
        cells = page.eval_on_selector_all("#rows tr", "rows => rows.map(row => row.innerText.split('\\t'))")
        assert [[cell.strip() for cell in row] for row in cells] == [
            [f"{row['start']:.2f}", f"{row['end']:.2f}", row["label"], f"{row['confidence']:.2f}"]
            for row in rows
        ]
        assert "5 windows" in page.get_attribute("#timeline", "aria-label")
        with_canvas = "canvas => canvas.getContext('2d').getImageData(20, 5, 1, 1).data[3]"
        assert page.eval_on_selector("#timeline", with_canvas) == 255
        saved = {}
        for form in ("csv", "vtt", "TextGrid"):
            page.focus(f"[data-form={form}]")
            with page.expect_download() as download:
                page.keyboard.press("Enter")
            saved[form] = Path(download.value.path()).read_text(encoding="utf-8")
            assert download.value.suggested_filename == f"speech.{form}"
        assert len(saved["csv"].splitlines()) == 6
        assert saved["vtt"].startswith("WEBVTT\n\n00:00:00.000 --> 00:00:01.500\n")
        assert read_textgrid(saved["TextGrid"], tmp_path) == [row["label"] for row in rows]
        page.focus("#rows tr:nth-child(2) button")
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#rows tr.now")).to_have_count(1)
        assert page.evaluate("document.getElementById('player').currentTime") >= 1
        if shown:
            page.screenshot(path=Path(shown) / "wide.png", full_page=True)
        page.set_viewport_size({"width": 360, "height": 700})
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        if shown:
            page.screenshot(path=Path(shown) / "narrow.png", full_page=True)
        broken = tmp_path / "broken.wav"
        broken.write_text("no sound")
        assert complaints == []
        page.set_input_files("#file", broken)
        playwright.expect(page.locator("#problem")).to_contain_text("broken.wav: not audio")
        assert set(hosts) == {address}


def test_the_microphone_with_a_key_and_the_keyboard_alone(recogniser: Recogniser, chromium: Any) -> None:
    with serving(recogniser) as service, running(service, "kéy?") as address:
        page, complaints, _ = opened(chromium, address, 360)
        page.keyboard.press("Tab")
        page.keyboard.insert_text("kéy?")
        while page.evaluate("document.activeElement.id") != "mic":
            page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector("#rows tr:nth-child(2)", timeout=20_000)
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#mic")).to_have_text("Use the microphone")
        assert page.inner_text("#problem") == ""
        assert complaints == []
        first = page.inner_text("#rows tr:first-child td:nth-child(2)")
        assert first == "2.00"
        page.wait_for_function("document.getElementById('player').duration > 2.9")  # NaN until it is loaded


def test_a_wrong_key_is_said(recogniser: Recogniser, chromium: Any, wav: Path) -> None:
    with serving(recogniser) as service, running(service, "key") as address:
        page, _, _ = opened(chromium, address)
        page.click("#mic")
        playwright.expect(page.locator("#problem")).to_contain_text("is the key right?")
        page.set_input_files("#file", wav)
        playwright.expect(page.locator("#problem")).to_contain_text("Bearer")


def read_textgrid(text: str, folder: Path) -> list[str]:
    textgrid = pytest.importorskip("praatio.textgrid")
    file = folder / "page.TextGrid"
    file.write_text(text, encoding="utf-8")
    read = textgrid.openTextgrid(str(file), includeEmptyIntervals=True)
    return [entry.label for entry in read.getTier("emotion").entries]
