"""``affetto serve``: a recogniser over HTTP and WebSockets, and a page; needs ``affetto[serve]``."""
