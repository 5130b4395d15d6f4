"""From a folder of recordings to a recogniser, with all that lies between.

    python examples/own_corpus.py FOLDER PATTERN [OUT]

FOLDER holds recordings whose paths name speaker and emotion, and PATTERN is a regular expression that finds
them, e.g. '(?P<speaker>[^/]+)/(?P<emotion>[^/]+)/' for alice/angry/001.wav. Five speakers or more are needed.
"""

import sys
from pathlib import Path

from affetto import AffettoError, evaluate, finetune, scan, settings


def main(folder: str, pattern: str, out: str = "runs/own") -> None:
    """Scans, checks, trains the two baselines that need no weights, and compares them."""
    place = Path(out)
    manifest = scan("table", folder, pattern=pattern, name="own")
    manifest.write(place / "own.csv")
    print(manifest.describe())
    for problem in manifest.problems():
        print(f"{problem.kind}: {problem.key}: {problem.message}")
    runs = {}
    for head in ("logistic", "svm"):
        chosen = settings(
            "finetune", protocol="speaker-kfold", encoder="functionals", head=head, enrolment=False
        )
        runs[head] = finetune(manifest, chosen, place / head)
    report = evaluate(runs["svm"].path, runs["logistic"].path, name="SVM")
    report.write(place / "report")
    uar = report.scores["uar"]
    print(f"UAR {100 * uar.value:.1f} %, report: {place / 'report' / 'report.html'}")
    print(f"recogniser: {runs['svm'] / 'recogniser'}")


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4:
        sys.exit(__doc__)
    try:
        main(*sys.argv[1:])
    except AffettoError as error:
        sys.exit(f"error: {error}")
