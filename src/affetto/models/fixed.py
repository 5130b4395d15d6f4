"""Names of fixed vectors, of one encoder or of several joined, and the settings that they stand for."""

from typing import Any

from affetto.errors import ConfigError, unknown
from affetto.models.checkpoint import published_encoder
from affetto.models.registry import EMBEDDERS, ENCODERS

JOIN = " + "
STATISTICS_OF, MEANS_OF = "-statistics", "-means"


def named_vectors(text: str) -> dict[str, Any] | None:
    """Returns the settings of the fixed vectors that a name stands for; None for a name of another kind.

    ``"whisper-statistics"`` are the :class:`Statistics` of an encoder, ``"whisper-means"`` the means alone,
    and ``"whisper + ge2e"`` the means of several, joined. A part may also be ``functionals``, ``d-vector``,
    or the folder of a published model.
    """
    names = [name.strip() for name in text.split(JOIN)]
    if len(names) == 1 and not text.endswith((STATISTICS_OF, MEANS_OF)):
        return None
    parts: list[dict[str, Any]] = []
    for name in names:
        if name in EMBEDDERS:
            parts.append({"name": name})
            continue
        base = name.removesuffix(STATISTICS_OF).removesuffix(MEANS_OF)
        encoder = {"name": base} if base in ENCODERS else published_encoder(base)
        if encoder is None:
            known = [*ENCODERS, *EMBEDDERS, "the folder of a published model"]
            raise ConfigError(unknown("encoder", base, known) + f", in {text!r}")
        parts.append({"name": "statistics", "encoder": encoder, "deviation": name.endswith(STATISTICS_OF)})
    return {"name": "joined", "parts": parts} if len(parts) > 1 else parts[0]
