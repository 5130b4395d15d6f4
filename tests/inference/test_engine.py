"""On Ray, rows are those of the plain run, and a worker that is killed loses none."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from affetto.annotation.run_speakers import SpeakerSettings, annotate_speakers
from affetto.cli.options import chosen_engine
from affetto.corpora.manifest import Manifest
from affetto.errors import ConfigError, MissingPackageError
from affetto.inference import Recogniser, predict
from affetto.inference.embedding import embed
from affetto.inference.engine import OnRay
from affetto.inference.loading import load_representation


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("cluster")
def test_on_ray_the_outputs_are_those_of_the_plain_run(corpus: Manifest, tmp_path: Path) -> None:
    (tmp_path / "broken.wav").write_text("no sound")
    samples, rate = soundfile.read(corpus.paths[0])
    soundfile.write(tmp_path / "long.wav", samples.tolist() * (70 * rate // len(samples)), rate)
    sources = [*corpus.paths[:7], tmp_path / "broken.wav", tmp_path / "long.wav", corpus.paths[0]]
    small = Recogniser.from_pretrained("small", device="cpu")
    functionals = load_representation("functionals", device="cpu")
    for name, engine in (("plain", None), ("ray", OnRay(2))):
        assert predict(small, sources, tmp_path / name / "a.csv", engine=engine).failed == 1
        embed(functionals, sources, tmp_path / name / "b.npy", engine=engine)
        few = corpus.where(corpus.keys[:4])
        annotate_speakers(few, SpeakerSettings(encoder="cnn"), tmp_path / name / "run", engine=engine)
    for file in ("a.csv", "b.npy", "run/speaker_embedding.npy", "run/manifest.csv"):
        assert (tmp_path / "plain" / file).read_bytes() == (tmp_path / "ray" / file).read_bytes(), file


@pytest.mark.usefixtures("cluster")
def test_a_killed_worker_loses_nothing_but_what_kills_it_alone(tmp_path: Path) -> None:
    def work(group: list[int]) -> list[int]:
        once = tmp_path / "once"
        if 13 in group or (3 in group and not once.exists()):
            once.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return [item * item for item in group]

    groups = [[1, 2], [3, 4], [13], [5, 6]]
    found = list(OnRay(1)(work, groups, lambda item: -item))
    assert [group for group, _ in found] == groups
    assert [own for _, own in found] == [[1, 4], [9, 16], [-13], [25, 36]]


def test_without_ray_the_error_has_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'affetto\[ray\]'"):
        OnRay()


def test_options_of_the_engine_need_it() -> None:
    assert chosen_engine(None, None, 0.0) is None
    with pytest.raises(ConfigError, match="are for --engine ray"):
        chosen_engine(None, 2, 0.0)
    with pytest.raises(ConfigError, match="unknown engine 'spark'"):
        chosen_engine("spark", None, 0.0)
