"""Utterances and texts in one space: training, prompts in place of classes, search by text.

No other room imports this one; the command line does.
"""

from affetto.language.prompts import with_prompts
from affetto.language.run import LanguageRunSettings, language_settings, pretrain_language
from affetto.language.search import Hit, Index, index
from affetto.language.sentences import worded

__all__ = [
    "Hit",
    "Index",
    "LanguageRunSettings",
    "index",
    "language_settings",
    "pretrain_language",
    "with_prompts",
    "worded",
]
