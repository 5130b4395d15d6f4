"""What is known of a corpus before one has it: licence, size, classes, where to ask, how its folder looks."""

from typing import NamedTuple


class About(NamedTuple):
    """A corpus as ``affetto corpora`` lists it.

    Attributes:
        title: its full name, and what kind of speech it is.
        language: what is spoken.
        size: utterances, hours, speakers.
        classes: its emotions, by affetto's names; empty where nobody labelled any.
        licence: in short; the corpus's own text counts.
        obtain: where to get it, or whom to ask.
        layout: the folder that ``scan`` reads, one line for each thing.
    """

    title: str
    language: str
    size: str
    classes: str
    licence: str
    obtain: str
    layout: str


CATALOGUE: dict[str, About] = {
    "crema-d": About(
        title="CREMA-D, acted sentences",
        language="English",
        size="7,442 utterances, 5.3 h, 91 speakers",
        classes="anger disgust fear happiness neutral sadness",
        licence="Open Database License 1.0",
        obtain="github.com/CheyneyComputerScience/CREMA-D (Git LFS)",
        layout="AudioWAV/1001_DFA_ANG_XX.wav\nVideoDemographics.csv\nprocessedResults/tabulatedVotes.csv",
    ),
    "ravdess": About(
        title="RAVDESS, acted sentences (the spoken part)",
        language="English",
        size="1,440 utterances, 1.5 h, 24 speakers",
        classes="anger calm disgust fear happiness neutral sadness surprise",
        licence="CC BY-NC-SA 4.0",
        obtain="zenodo.org/records/1188976",
        layout="Actor_01/03-01-01-01-01-01-01.wav",
    ),
    "emodb": About(
        title="Berlin EMO-DB, acted sentences",
        language="German",
        size="535 utterances, 0.4 h, 10 speakers",
        classes="anger boredom disgust fear happiness neutral sadness",
        licence="free, to be cited",
        obtain="emodb.bilderbar.info",
        layout="wav/03a01Fa.wav",
    ),
    "iemocap": About(
        title="IEMOCAP, acted and improvised dialogues, consensus labels and votes",
        language="English",
        size="10,039 utterances, 12 h, 10 speakers",
        classes="anger disgust excitement fear frustration happiness neutral other sadness surprise",
        licence="research, by signed agreement",
        obtain="sail.usc.edu/iemocap",
        layout="Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav\n"
        "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt\n"
        "Session1/dialog/transcriptions/Ses01F_impro01.txt",
    ),
}
"""Every corpus that ``scan`` knows by name."""
