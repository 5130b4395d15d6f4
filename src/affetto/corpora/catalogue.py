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
    "cafe": About(
        title="CaFE, acted sentences in two intensities",
        language="French (Canada)",
        size="936 utterances, 1.2 h, 12 speakers",
        classes="anger disgust fear happiness neutral sadness surprise",
        licence="CC BY-NC-SA 4.0",
        obtain="zenodo.org/records/1478765",
        layout="Colère/Fort/01-C-2-1.wav\nNeutre/01-N-1.wav",
    ),
    "emovo": About(
        title="EMOVO, acted sentences",
        language="Italian",
        size="588 utterances, 0.5 h, 6 speakers",
        classes="anger disgust fear happiness neutral sadness surprise",
        licence="free for research, to be cited",
        obtain="voice.fub.it/activities/corpora/emovo",
        layout="f1/dis-f1-b1.wav",
    ),
    "nemo": About(
        title="nEMO, acted sentences",
        language="Polish",
        size="4,481 utterances, 3 h, 9 speakers",
        classes="anger fear happiness neutral sadness surprise",
        licence="CC BY-NC-SA 4.0",
        obtain="github.com/amu-cai/nEMO",
        layout="samples/WR0_surprised_64.wav\ndata.tsv",
    ),
    "savee": About(
        title="SAVEE, acted sentences",
        language="English",
        size="480 utterances, 0.5 h, 4 speakers, all men",
        classes="anger disgust fear happiness neutral sadness surprise",
        licence="free for research, by registration",
        obtain="kahlan.eps.surrey.ac.uk/savee",
        layout="AudioData/DC/a01.wav, or DC_a01.wav",
    ),
    "shemo": About(
        title="ShEMO, radio plays, labels by vote",
        language="Persian",
        size="3,000 utterances, 3.4 h, 87 speakers",
        classes="anger fear happiness neutral sadness surprise",
        licence="free for academic use",
        obtain="github.com/pariajm/sharif-emotional-speech-dataset",
        layout="female/F01A01.wav\nmale/M02F01.wav\nshemo.json",
    ),
    "tess": About(
        title="TESS, acted words in one carrier phrase",
        language="English",
        size="2,800 utterances, 1.6 h, 2 speakers, both women",
        classes="anger disgust fear happiness neutral pleasant_surprise sadness",
        licence="Creative Commons, not for commerce",
        obtain="doi.org/10.5683/SP2/E8H2MF",
        layout="OAF_angry/OAF_back_angry.wav, or OAF_back_angry.wav",
    ),
    "urdu": About(
        title="URDU, talk shows",
        language="Urdu",
        size="400 utterances, 0.3 h, 29 speakers",
        classes="anger happiness neutral sadness",
        licence="research only",
        obtain="github.com/siddiquelatif/URDU-Dataset",
        layout="Angry/SM1_F1_A01.wav",
    ),
}
"""Every corpus that ``scan`` knows by name."""
