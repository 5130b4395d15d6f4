"""Utterances and texts in one space: training, prompts in place of classes, search. No room imports this."""

from affetto.language.clap import worded
from affetto.language.run import language_settings, pretrain_language
from affetto.language.search import Hit, Index, index, with_prompts

__all__ = ["Hit", "Index", "index", "language_settings", "pretrain_language", "with_prompts", "worded"]
