"""Which emotions does a folder of recordings sound like?

    python examples/predict_folder.py RECOGNISER FOLDER

Prints how often each emotion is the likeliest, the surest recording of each, and what could not be read.
"""

import sys

from affetto import AffettoError, Recogniser


def main(name: str, folder: str) -> None:
    """Predicts everything below a folder, one row after another, and sums up."""
    recogniser = Recogniser.from_pretrained(name)
    count = dict.fromkeys(recogniser.labels, 0)
    surest: dict[str, tuple[float, str]] = {}
    for row in recogniser.files(folder):
        if row["error"]:
            print(f"not read: {row['file']}: {row['error']}")
            continue
        count[row["label"]] += 1
        surest[row["label"]] = max(surest.get(row["label"], (0.0, "")), (row["confidence"], row["file"]))
    for label, number in sorted(count.items(), key=lambda item: -item[1]):
        share, file = surest.get(label, (0.0, ""))
        print(f"{number:6d}  {label:12s}" + (f"{100 * share:3.0f} % sure of {file}" if file else ""))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(sys.argv[1], sys.argv[2])
    except AffettoError as error:
        sys.exit(f"error: {error}")
