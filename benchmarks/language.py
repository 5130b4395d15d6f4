"""Search beside plain numpy, and encoders of transformers wrapped beside unwrapped.

    python benchmarks/language.py [--rounds 7]

Search: the ten nearest of 100,000 vectors of 512, mapped from a file as an index is, beside numpy's matrix
product and argpartition on the same array in memory; the query's own embedding is left out. Wrapped: one
forward pass of wav2vec 2.0 and WavLM in their base shape, random weights, over utterances of one length,
beside the model's own forward with all its layers. Rounds alternate; the medians of processor time are
compared, which other work on the machine disturbs less.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import transformers

from affetto.language.search import nearest
from affetto.models.hub_encoders import Wav2Vec2, Wav2Vec2Settings
from affetto.runs import write_text


def compared(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Returns median processor seconds of both, after one round that does not count."""
    spent: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds + 1):
        for each, taken in zip((ours, theirs), spent, strict=True):
            began = time.process_time()
            each()
            taken.append(time.process_time() - began)
    return statistics.median(spent[0][1:]), statistics.median(spent[1][1:])


def search(rounds: int) -> tuple[float, float]:
    generator = np.random.default_rng(0)
    vectors = generator.normal(size=(100_000, 512)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    wanted = vectors[7]
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "vectors.npy", vectors)
        mapped = np.load(Path(folder) / "vectors.npy", mmap_mode="r")

        def theirs() -> None:
            scores = vectors @ wanted
            np.argpartition(scores, -10)[-10:]

        return compared(lambda: nearest(mapped, wanted, 10), theirs, rounds)


def wrapped(stem: str, rounds: int, seconds: float = 4.0, utterances: int = 4) -> tuple[float, float]:
    config = getattr(transformers, f"{stem}Config")()
    shape = {**config.to_diff_dict(), "model_type": config.model_type}
    torch.manual_seed(0)
    ours = Wav2Vec2(Wav2Vec2Settings(model=stem, shape=shape, normalise=False)).eval()
    waveforms = torch.randn(utterances, round(16_000 * seconds))
    lengths = torch.full((utterances,), waveforms.shape[1])
    with torch.inference_mode():
        theirs = ours.network(waveforms, output_hidden_states=True).last_hidden_state
        gap = float((ours(waveforms[:, :, None], lengths).values - theirs).abs().max())
        assert gap < 1e-5, gap
        return compared(
            lambda: ours(waveforms[:, :, None], lengths),
            lambda: ours.network(waveforms, output_hidden_states=True),
            rounds,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    rows = [("search, 100,000 x 512", "numpy", search(rounds), "at most 1.2 times as long")]
    for stem in ("Wav2Vec2", "WavLM"):
        rows.append((f"{stem} base, 4 x 4 s", "transformers", wrapped(stem, rounds), "at least 0.95 as fast"))
    lines = [
        "# Search, and encoders from elsewhere",
        "",
        f"`python benchmarks/language.py --rounds {rounds}`: {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}, transformers {transformers.__version__}, numpy {np.__version__}; median "
        "processor time of alternating rounds.",
        "",
        "| | beside it | ms | ms of that | times as fast | bar |",
        "|---|---|---:|---:|---:|---|",
    ]
    for name, other, (own, theirs), bar in rows:
        lines.append(
            f"| {name} | {other} | {1e3 * own:.1f} | {1e3 * theirs:.1f} | {theirs / own:.2f} | {bar} |"
        )
    text = "\n".join(lines) + "\n"
    write_text(Path(__file__).with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    main()
