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
    "esd": About(
        title="ESD (Emotional Speech Dataset), acted sentences",
        language="English, Chinese",
        size="35,000 utterances, 29 h, 20 speakers",
        classes="anger happiness neutral sadness surprise",
        licence="research, to be cited",
        obtain="github.com/HLTSingapore/Emotional-Speech-Data",
        layout="0001/Angry/train/0001_000371.wav (or 0001/Angry/0001_000371.wav)\n0001/0001.txt",
    ),
    "jl-corpus": About(
        title="JL-Corpus, acted sentences, five primary and five secondary emotions",
        language="English (New Zealand)",
        size="2,400 utterances, 4 speakers",
        classes="anger anxiety apology assertiveness concern encouragement excitement happiness neutral "
        "sadness",
        licence="CC0 1.0",
        obtain="kaggle.com/datasets/tli725/jl-corpus",
        layout="Raw JL corpus (unchecked and unannotated)/JL(wav+txt)/female1_angry_10a_1.wav\n"
        "Raw JL corpus (unchecked and unannotated)/JL(wav+txt)/female1_angry_10a_1.txt",
    ),
    "meld": About(
        title="MELD, dialogues of the series Friends",
        language="English",
        size="13,708 utterances, 1,433 dialogues",
        classes="anger disgust fear happiness neutral sadness surprise",
        licence="GNU General Public License 3.0",
        obtain="github.com/declare-lab/MELD; it is video (mp4), so extract the sound into the same folders",
        layout="train_sent_emo.csv\ntrain_splits/dia0_utt0.wav\n"
        "dev_sent_emo.csv\ndev_splits_complete/dia0_utt0.wav\n"
        "test_sent_emo.csv\noutput_repeated_splits_test/dia0_utt0.wav",
    ),
    "msp-improv": About(
        title="MSP-IMPROV, acted and improvised dialogues, consensus labels and votes",
        language="English",
        size="8,438 utterances, 12 speakers",
        classes="anger happiness neutral other sadness",
        licence="research, by signed agreement",
        obtain="lab-msp.com/MSP/MSP-Improv.html",
        layout="Evalution.txt\nAudio/session1/S01A/P/MSP-IMPROV-S01A-F01-P-FM01.wav\n"
        "All_human_transcriptions/MSP-IMPROV-S01A-F01-P-FM01.txt",
    ),
    "msp-podcast": About(
        title="MSP-Podcast, speech from podcasts, consensus labels and votes",
        language="English",
        size="207,136 utterances, 324 h (release 1.12)",
        classes="anger contempt disgust fear happiness neutral other sadness surprise",
        licence="research, by signed agreement",
        obtain="lab-msp.com/MSP/MSP-Podcast.html",
        layout="Audios/MSP-PODCAST_0001_0008.wav\nLabels/labels_consensus.csv\nLabels/labels_detailed.csv\n"
        "Transcripts/MSP-PODCAST_0001_0008.txt",
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
    "librispeech": About(
        title="LibriSpeech, read audio books",
        language="English",
        size="292,367 utterances, 982 h, 2,484 speakers",
        classes="",
        licence="CC BY 4.0",
        obtain="openslr.org/12",
        layout="SPEAKERS.TXT\ntrain-clean-100/103/1240/103-1240-0000.flac\n"
        "train-clean-100/103/1240/103-1240.trans.txt",
    ),
    "voxceleb1": About(
        title="VoxCeleb1, interviews of celebrities",
        language="many, mostly English",
        size="153,516 utterances, 352 h, 1,251 speakers",
        classes="",
        licence="CC BY 4.0; the videos' copyright stays with their owners",
        obtain="robots.ox.ac.uk/~vgg/data/voxceleb, by form",
        layout="vox1_meta.csv\nwav/id10001/1zcIwhmdeo4/00001.wav",
    ),
    "voxceleb2": About(
        title="VoxCeleb2, interviews of celebrities",
        language="many",
        size="1,128,246 utterances, 2,442 h, 6,112 speakers",
        classes="",
        licence="CC BY 4.0; the videos' copyright stays with their owners",
        obtain="robots.ox.ac.uk/~vgg/data/voxceleb, by form; it is m4a, so convert it to wav or flac",
        layout="vox2_meta.csv\nwav/id00012/21Uxsk56VDQ/00001.wav",
    ),
}
"""Every corpus that ``scan`` knows by name."""
