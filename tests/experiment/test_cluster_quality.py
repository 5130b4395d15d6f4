"""The example that scores ways of clustering, on vectors in which emotion and sentence are planted."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from affetto.corpora.arrays import cell, write_vectors
from affetto.corpora.manifest import Manifest
from helpers import script


@pytest.fixture(scope="module")
def example() -> Any:
    return script("experiments/cluster_quality.py")


def test_taking_the_sentence_out_is_seen_to_help(example: Any, corpus: Manifest, tmp_path: Path) -> None:
    table = pd.concat([corpus.table.assign(take=str(take)) for take in range(6)], ignore_index=True)
    table["key"] += "_" + table["take"]
    generator = np.random.default_rng(0)
    emotions, sentences = (pd.factorize(table[name])[0] for name in ("emotion", "text"))
    said = generator.normal(size=(sentences.max() + 1, 8))[sentences]
    felt = generator.normal(size=(emotions.max() + 1, 8))[emotions]
    noise = generator.normal(size=(len(table), 8))
    planted = {
        "speaker_embedding": noise,
        "voice": felt + 3 * said + 0.3 * noise,
        "whisper": felt + 3 * said + 0.3 * noise[::-1],
        "content": said + 0.05 * noise,
    }
    for name, vectors in planted.items():
        info = {"encoder": name, "encoder_sha256": "0"}
        write_vectors(tmp_path / f"{name}.npy", vectors.astype(np.float32), table["key"].tolist(), info)
        table[name] = [cell(tmp_path / f"{name}.npy", row) for row in range(len(table))]
    rows = example.score(Manifest(table, corpus.roots), "toy")
    ami = {row["method"]: row["ami"] for row in rows}
    assert list(ami) == list(example.STEPS)
    assert abs(ami["plain k-means on d-vectors"]) < 0.1
    assert ami["statistics, centred, content out"] > ami["statistics of the speaker encoder, centred"] + 0.2
    assert ami["statistics + Whisper"] > ami["the same, content left in"] + 0.2
    assert all(row["clustered"] == 1 for row in rows)
    page = example.page(rows)
    assert page.count("\n| ") == len(rows) + 1
    assert "## toy, 6 speakers" in page
