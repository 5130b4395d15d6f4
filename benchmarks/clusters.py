"""How fast k-means within all speakers at once is beside a loop of scikit-learn over them, and how tight.

    python benchmarks/clusters.py [--speakers 6000] [--noise 0.1]

Made-up vectors of VoxCeleb2's size: unit vectors around a few random directions a speaker. Both have the same
number of clusters and restarts and the same limit of steps. scikit-learn stops at its usual tolerance; ours
goes on until no utterance changes its cluster, which is never less. Euclidean inertia about the means of the
clusters is what scikit-learn minimises; ours minimises angles. Memory is the most that the process held while
clustering, over the size of the vectors.
"""

import argparse
import resource
import time
from pathlib import Path

import numpy as np
import sklearn
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans

from affetto.progress import progress
from affetto.runs import write_text
from affetto.vectors.kmeans import spherical_kmeans

Vectors = NDArray[np.float32]


def planted(speakers: int, utterances: int, dim: int, clusters: int, noise: float) -> Vectors:
    """Makes unit vectors ``(speakers * utterances, dim)``; noise is the deviation in each dimension."""
    generator = np.random.default_rng(0)
    vectors = np.empty((speakers * utterances, dim), np.float32)
    for own in np.split(vectors, speakers):
        centres = generator.standard_normal((clusters, dim), np.float32)
        centres /= np.linalg.norm(centres, axis=1, keepdims=True)
        own[:] = centres[generator.integers(0, clusters, utterances)]
        own += noise * generator.standard_normal(own.shape, np.float32)
        own /= np.linalg.norm(own, axis=1, keepdims=True)
    return vectors


def inertia(vectors: Vectors, labels: NDArray[np.int64]) -> float:
    """Sums the squared distances of one speaker's utterances from the means of their clusters."""
    means = np.stack([vectors[labels == number].mean(0) for number in range(labels.max() + 1)])
    return float(np.square(vectors - means[labels], dtype=np.float64).sum())


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--speakers", type=int, default=6000)
    parser.add_argument("--utterances", type=int, default=170)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--clusters", type=int, default=6)
    parser.add_argument("--restarts", type=int, default=10)
    parser.add_argument("--noise", type=float, default=0.1)
    arguments = parser.parse_args()
    speakers, clusters, restarts = arguments.speakers, arguments.clusters, arguments.restarts
    vectors = planted(speakers, arguments.utterances, arguments.dim, clusters, arguments.noise)
    groups = np.repeat(np.arange(speakers), arguments.utterances)
    few = 8 * arguments.utterances
    spherical_kmeans(vectors[:few], groups[:few], [clusters], restarts=restarts)  # warms up
    began, worked = time.perf_counter(), time.process_time()
    labels = spherical_kmeans(vectors, groups, [clusters], restarts=restarts, iterations=300).labels
    ours, ours_work = time.perf_counter() - began, time.process_time() - worked
    held = peak_bytes() / vectors.nbytes
    tightness = [
        inertia(*pair) for pair in zip(*(np.split(a, speakers) for a in (vectors, labels)), strict=True)
    ]
    reference = []
    began, worked = time.perf_counter(), time.process_time()
    for own in progress(np.split(vectors, speakers), "scikit-learn"):
        reference.append(
            KMeans(clusters, n_init=restarts, max_iter=300, tol=1e-4, random_state=0).fit(own).inertia_
        )
    loop, loop_work = time.perf_counter() - began, time.process_time() - worked
    tight = sum(tightness) / sum(reference)
    worst = max(mine / theirs for mine, theirs in zip(tightness, reference, strict=True))
    noise, each = arguments.noise, f"{arguments.utterances} utterances, D = {arguments.dim}"
    versions = f"torch {torch.__version__}, scikit-learn {sklearn.__version__}"
    text = f"""# Clusters within speakers

`python benchmarks/clusters.py --speakers {speakers} --noise {noise}`: {speakers:,} speakers of {each}, \
k = {clusters}, {restarts} restarts; {torch.get_num_threads()} threads, {versions}.

| | seconds | milliseconds a speaker | processor seconds | Euclidean inertia |
|---|---:|---:|---:|---:|
| a loop of scikit-learn's KMeans | {loop:.1f} | {1000 * loop / speakers:.1f} | {loop_work:.1f} | 1 |
| affetto, all speakers at once | {ours:.1f} | {1000 * ours / speakers:.2f} | {ours_work:.1f} | {tight:.4f} |

**{loop / ours:.1f} times as fast** ({loop_work / ours_work:.1f} by processor time). The largest inertia of \
a speaker is {worst:.4f} of scikit-learn's. Most memory held, the vectors and torch itself included: \
{held:.2f} times the vectors.

The bar is a ratio of 10, an inertia within 1 % and 2 times the vectors.
"""
    write_text(Path(__file__).with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    main()
