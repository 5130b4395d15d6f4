"""What a protocol is made of: folds, lists and rules that make them, published figures."""

import re
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, Field, model_validator

from affetto.config import Settings


class Fold(NamedTuple):
    """Who is where in one fold.

    Attributes:
        number: 1 for the first fold.
        train: keys of the rows to learn from.
        dev: keys of the rows to choose on (epochs, settings, calibration).
        test: keys of the rows to score, once.
    """

    number: int
    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]


def _expand(value: Any) -> Any:
    """Turns ``"1001 1004 1076-1079"`` into the ids it stands for."""
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if not isinstance(value, str):
        raise ValueError('ids are text: write them in quotes, as in "03 08 1076-1079"')
    ids: list[str] = []
    for word in value.split():
        if between := re.fullmatch(r"(\d+)-(\d+)", word):
            first, last = between.groups()
            ids += [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
        else:
            ids.append(word)
    return tuple(ids)


Ids = Annotated[tuple[str, ...], BeforeValidator(_expand)]


class Lists(Settings):
    """Units of one fold; whoever is in neither dev nor test is train."""

    test: Ids
    dev: Ids


class Rule(Settings):
    """How to make folds for any manifest.

    Attributes:
        kind: ``speaker-kfold`` deals speakers to folds, even in gender; ``leave-one-speaker-out`` makes each
            speaker a fold; ``leave-one-corpus-out`` tests on one corpus and takes dev from speakers of the
            others; ``cross-corpus`` tests on one corpus and takes train and dev from another, each with the
            classes that both have; ``split-column`` takes train, dev and ``test_split`` from the manifest's
            column ``split``; ``two-speakers`` tests on each of two speakers in turn and takes dev from the
            texts of the other; ``random-by-clip`` deals clips, even in emotion, so that speakers are shared.
        folds: how many, for the rules that deal.
        dev_share: for ``leave-one-corpus-out`` and ``cross-corpus`` the share of the other speakers that is
            dev, for ``two-speakers`` of the other's texts.
        train_corpus: for ``cross-corpus``, where to learn.
        test_corpus: and where to test.
        test_split: for ``split-column``, the value of test; rows with a value that is none of these three,
            and rows without a speaker, are left out.
        seed: which deal.
    """

    kind: Literal[
        "speaker-kfold",
        "leave-one-speaker-out",
        "leave-one-corpus-out",
        "cross-corpus",
        "split-column",
        "two-speakers",
        "random-by-clip",
    ]
    folds: int = Field(5, ge=3)
    dev_share: float = Field(0.2, gt=0, lt=1)
    train_corpus: str = ""
    test_corpus: str = ""
    test_split: str = "test"
    seed: int = 0

    @model_validator(mode="after")
    def _fits(self) -> "Rule":
        if (self.kind == "cross-corpus") != bool(self.train_corpus and self.test_corpus):
            raise ValueError(
                "train_corpus and test_corpus go together with cross-corpus, and with nothing else"
            )
        if self.test_split in ("train", "dev"):
            raise ValueError(f"got test_split={self.test_split}, which is another part")
        return self

    @property
    def corpora(self) -> tuple[str, ...]:
        """The corpora that the rule names."""
        return tuple(name for name in (self.train_corpus, self.test_corpus) if name)


class Published(Settings):
    """A figure that somebody published.

    Attributes:
        system: what was measured.
        metric: ``uar``, ``war``, ``macro_f1``, or another in words.
        value: a fraction of 1.
        source: where it is printed.
        caveat: what to know before comparing.
        comparable: False for a figure that is to be shown apart, since it measures something else.
    """

    system: str
    metric: str
    value: float = Field(ge=0, le=1)
    source: str
    caveat: str = ""
    comparable: bool = True
