"""Which model on which live server: what the runtime ``open-inference`` is told, as variables of its process."""

from dataclasses import dataclass

from rnn_export.errors import UsageError

ENCODINGS = ("auto", "json", "binary")


@dataclass(frozen=True)
class ServerAddress:
    """A model on a live server.

    Attributes:
        url: http://HOST:PORT or grpc://HOST:PORT.
        model: its name there; empty where only the server is meant.
        encoding: of requests over HTTP; auto takes binary tensors where the server offers them.
        holds_state: whether the server carries the state, so that a run is a whole sequence.

    Raises:
        UsageError: the URL or the encoding makes no sense.
    """

    url: str
    model: str = ""
    encoding: str = "auto"
    holds_state: bool = False

    def __post_init__(self) -> None:
        scheme, colon, rest = self.url.partition("://")
        if scheme not in ("http", "https", "grpc") or not colon or not rest:
            raise UsageError(f"{self.url!r} is no address of a server", "Write http://HOST:PORT or grpc://HOST:PORT")
        if self.encoding not in ENCODINGS:
            raise UsageError(f"{self.encoding!r} is no encoding", f"Choose {', '.join(ENCODINGS)}")

    @property
    def environ(self) -> dict[str, str]:
        """The variables that the child reads."""
        return {
            "RNN_EXPORT_SERVER_URL": self.url,
            "RNN_EXPORT_SERVER_MODEL": self.model,
            "RNN_EXPORT_SERVER_ENCODING": self.encoding,
            "RNN_EXPORT_SERVER_SEQUENCES": "1" if self.holds_state else "",
        }
