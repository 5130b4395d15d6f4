"""Protocols: who is train, dev and test, on which labels, and what others have published."""

from affetto.protocols.folds import Fold
from affetto.protocols.protocol import Protocol, list_protocols, load_protocol

__all__ = ["Fold", "Protocol", "list_protocols", "load_protocol"]
