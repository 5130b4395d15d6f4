"""Jobs that wait together, and what one does to the others."""

import logging
import threading
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from affetto import Recogniser
from affetto.inference.sources import Clip, Windows
from affetto.serving.jobs import Job, Jobs


def held(jobs: Jobs, recogniser: Recogniser) -> threading.Event:
    """Keeps the only thread busy until the event is set."""
    begun, go = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        go.wait(10)

    jobs.submit(Job(recogniser, [], Windows(), call=wait))
    assert begun.wait(10)
    return go


def job(recogniser: Recogniser, sound: NDArray[np.int16], **more: Any) -> Job:
    clip = Clip("a.wav", (sound, 16_000), speaker="a")
    return Job(recogniser, [clip], Windows(), len(sound) / 16_000, **more)


def test_a_thread_outlives_jobs_that_were_cancelled(recogniser: Recogniser, sound: NDArray[np.int16]) -> None:
    jobs = Jobs(1)
    go = held(jobs, recogniser)
    for _ in range(3):
        jobs.submit(job(recogniser, sound), urgent=True).cancel()
    go.set()
    threading.Event().wait(0.1)
    assert jobs.submit(job(recogniser, sound)).result(10)[0]["label"] in recogniser.labels
    jobs.close()


def test_jobs_that_wait_together_get_what_each_gets_alone(
    recogniser: Recogniser, sound: NDArray[np.int16], monkeypatch: pytest.MonkeyPatch
) -> None:
    enrolment = recogniser.enrol([(sound, 16_000)])
    parts = [sound[:20_000], sound[20_000:], sound[:20_000]]
    more: list[dict[str, Any]] = [{}, {}, {"enrolments": {"a": enrolment}}]
    jobs, sizes, rows = Jobs(1), [], recogniser.rows

    def counted(clips: list[Clip], *given: Any, **named: Any) -> Any:
        sizes.append(len(clips))
        return rows(clips, *given, **named)

    monkeypatch.setattr(recogniser, "rows", counted)
    alone = [
        jobs.submit(job(recogniser, own, **each)).result(10) for own, each in zip(parts, more, strict=True)
    ]
    go = held(jobs, recogniser)
    futures = [jobs.submit(job(recogniser, own, **each)) for own, each in zip(parts, more, strict=True)]
    go.set()
    for future, expected in zip(futures, alone, strict=True):
        (row,), (other,) = future.result(10), expected
        assert list(row) == list(other)
        assert row["p_anger"] == pytest.approx(other["p_anger"], abs=1e-5)
    assert sizes == [1, 1, 1, 2, 1]
    jobs.close()


def test_a_job_that_fails_does_not_fail_those_beside_it(
    recogniser: Recogniser,
    sound: NDArray[np.int16],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def rows(self: Recogniser, clips: list[Clip], *given: Any, **named: Any) -> Any:
        if any(clip.file == "b.wav" for clip in clips):
            raise RuntimeError("broken")
        return plain(self, clips, *given, **named)

    plain = Recogniser.rows
    monkeypatch.setattr(Recogniser, "rows", rows)
    jobs = Jobs(1)
    go = held(jobs, recogniser)
    bad = job(recogniser, sound)
    bad.clips = [Clip("b.wav", (sound, 16_000))]
    good = [jobs.submit(each) for each in (job(recogniser, sound), bad, job(recogniser, sound))]
    with caplog.at_level(logging.CRITICAL):
        go.set()
        assert good[0].result(10)[0]["label"] == good[2].result(10)[0]["label"]
        with pytest.raises(RuntimeError, match="broken"):
            good[1].result(10)
    jobs.close()
