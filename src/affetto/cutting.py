"""A signal that comes in pieces, cut into blocks that may overlap: files and streams are cut here alike."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray


class Cutter:
    """Cuts a signal into blocks of ``size`` samples, one every ``hop``, and holds few of them."""

    def __init__(self, size: int, hop: int) -> None:
        self.size, self.hop = size, hop
        self.begin = 0  # where the next block begins
        self._covered = 0  # where the last block ended
        self._held = np.zeros(0, np.float32)

    def push(self, piece: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Takes the next samples ``(S,)``; yields complete blocks, each with its first sample."""
        self._held = np.concatenate([self._held, piece]) if len(self._held) else piece
        while len(self._held) >= self.size:
            begin, block = self.begin, self._held[: self.size].copy()
            self._covered, self.begin, self._held = (
                begin + self.size,
                begin + self.hop,
                self._held[self.hop :],
            )
            yield begin, block

    def rest(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yields what remains, a shorter block, if it holds something that no block before it held."""
        if self.begin + len(self._held) > self._covered:
            yield self.begin, self._held
