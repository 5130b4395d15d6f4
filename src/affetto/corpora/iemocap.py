"""IEMOCAP: ten speakers in five sessions of dialogue (Busso et al., Language Resources and Evaluation 2008).

An utterance is named after its dialogue and its speaker: ``Ses01F_impro01_M003`` is spoken by the man of
session 1; the first ``F`` means that the woman wore the markers.
"""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from affetto.corpora.labels import canonical
from affetto.corpora.manifest import Manifest
from affetto.corpora.scanning import collect, lines_of, misfit, parts_of, read_about
from affetto.errors import ManifestError

ABOUT = read_about(__file__)
_CODES = "ang dis exc fea fru hap neu oth sad sur"
EMOTIONS = {**{code: canonical(code) for code in _CODES.split()}, "xxx": None}
_VOTED = {name[:4]: name for name in EMOTIONS.values() if name}
_UTTERANCE = re.compile(r"(Ses0[1-5])[FM]_(impro|script)\w*_([FM])\w*\d+")
_HEAD = re.compile(
    r"\[\s*([\d.]+)\s*-\s*([\d.]+)\s*\]\s+(\S+)\s+(\w+)\s+\[\s*([\d.]+),\s*([\d.]+),\s*([\d.]+)\s*\]"
)
_VOTE = re.compile(r"C-E\d*:\s*([^()]*)")
_TEXT = re.compile(r"(\S+)\s+\[[^\]]*\]:\s*(.*)")


def scan(root: Path) -> Manifest:
    """Makes the manifest of IEMOCAP from the folder with ``Session1`` to ``Session5``, or the one above.

    The emotion is the consensus of ``EmoEvaluation``, empty where the raters do not agree. ``valence``,
    ``arousal`` (the corpus calls it activation) and ``dominance`` are the raters' means on 1 to 5;
    ``votes_<emotion>`` counts the raters (not the actors' own view), a rater who named several emotions
    counting as a fraction for each.
    """
    if not list(root.glob("Session[1-5]")) and (root / "IEMOCAP_full_release").is_dir():
        root = root / "IEMOCAP_full_release"
    sessions = sorted(root.glob("Session[1-5]"))
    if not sessions:
        message = "has no folder Session1 to Session5; name the folder that holds them"
        raise misfit(ABOUT, root, f"{root} {message}")
    labels: dict[str, dict[str, Any]] = {}
    texts: dict[str, str] = {}
    notes: list[str] = []
    for session in sessions:
        for path in sorted(session.glob("dialog/EmoEvaluation/[!.]*.txt")):
            labels.update(_evaluation(path))
        for path in sorted(session.glob("dialog/transcriptions/[!.]*.txt")):
            lines = (_TEXT.match(line) for line in lines_of(path))
            texts.update({line[1]: line[2].strip() for line in lines if line})
        if not (session / "dialog" / "EmoEvaluation").is_dir():
            notes.append(f"{session.name}/dialog/EmoEvaluation is absent: no labels for this session")
    seen: set[str] = set()

    def row(path: Path) -> dict[str, Any] | None:
        if "sentences" not in path.relative_to(root).parts:
            return None  # there are whole dialogues and motion capture too
        session, style, gender = parts_of(path, _UTTERANCE, "like Ses01F_impro01_M003")
        seen.add(path.stem)
        return {
            "speaker": session + gender,
            "gender": "female" if gender == "F" else "male",
            "session": session,
            "style": "improvised" if style == "impro" else "scripted",
            "text": texts.get(path.stem),
            "language": "en",
            **labels.get(path.stem, {}),
        }

    manifest = collect(root, ABOUT, row, notes=notes)
    message = "is labelled in EmoEvaluation, but its recording is absent"
    lost = ((key, message) for key in sorted(labels.keys() - seen))
    return replace(manifest, errors=(*manifest.errors, *lost))


def _evaluation(path: Path) -> dict[str, dict[str, Any]]:
    """Reads one dialogue: a head line for each utterance, then a line for each rater."""
    found: dict[str, dict[str, Any]] = {}
    votes: dict[str, dict[str, float]] = {}
    key = ""
    for line in lines_of(path):
        if head := _HEAD.match(line):
            _, _, key, code, *scales = head.groups()
            if code not in EMOTIONS:
                raise ManifestError(f"{path}: {key} has the label {code!r}; allowed: {', '.join(EMOTIONS)}")
            columns = dict(zip(("valence", "arousal", "dominance"), map(float, scales), strict=True))
            found[key] = {"emotion": EMOTIONS[code], **columns}
        elif key and (rater := _VOTE.match(line)):
            counts = votes.setdefault(key, dict.fromkeys(_VOTED.values(), 0.0))
            named = [word.strip().lower()[:4] for word in rater[1].split(";") if word.strip()]
            for word in named:
                counts[_VOTED.get(word, "other")] += 1 / len(named)
    for voted, counts in votes.items():
        found[voted].update({f"votes_{name}": count for name, count in counts.items()})
    return found
