"""What a server takes, and how it refuses the rest: with a status, a code and a sentence."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Limits:
    """The most that one request, one session and the whole server may take."""

    upload_bytes: int = 100_000_000  # of a request's body
    seconds: float = 3600.0  # of a recording or a session
    waiting: int = 256  # requests with an upload, in progress and waiting
    idle_seconds: float = 15.0  # between two pieces of an upload
    upload_seconds: float = 300.0  # of a whole upload
    files: int = 50  # of one enrolment
    speakers: int = 1000
    segments: int = 5000
    field_bytes: int = 1_000_000  # of the fields of a form that are no files
    channels: int = 32
    window_seconds: tuple[float, float] = (0.1, 60.0)  # of the shortest and the longest window
    overlap: int = 20  # windows that may hold the same moment
    sessions: int = 200
    frame_bytes: int = 320_000  # 10 s
    behind_seconds: float = 10.0  # of sound that came and is not answered; then no more is read for a while
    silent_seconds: float = 60.0  # in which a session may send nothing


@dataclass
class Refusal(Exception):
    """A request that is not answered."""

    status: int
    code: str
    message: str
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> dict[str, dict[str, str]]:
        """What the client gets."""
        return {"error": {"code": self.code, "message": self.message}}


def invalid(message: str) -> Refusal:
    """Returns the refusal of a field with another value than it may have."""
    return Refusal(422, "invalid_request", message)


def busy(message: str, seconds: float) -> Refusal:
    """Returns the refusal of a request for which there is no room now."""
    return Refusal(429, "too_many_requests", message, {"Retry-After": str(max(1, round(seconds)))})
