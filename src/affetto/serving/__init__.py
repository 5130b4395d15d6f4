"""``affetto serve``: a recogniser over HTTP and WebSockets, and a page; needs ``affetto[serve]``."""

from affetto.serving.app import application
from affetto.serving.limits import Limits

__all__ = ["Limits", "application"]
