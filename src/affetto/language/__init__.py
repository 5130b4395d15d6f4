"""Utterances and texts in one space: training, prompts in place of classes, search. No room imports this."""

from affetto.language.prompts import with_prompts
from affetto.language.run import language_settings, pretrain_language
from affetto.language.search import Hit, Index, index
from affetto.language.sentences import worded

__all__ = ["Hit", "Index", "index", "language_settings", "pretrain_language", "with_prompts", "worded"]
