"""Which model on which live server: what the runtime ``open-inference`` is told, as variables of its process."""

from dataclasses import dataclass

from rnn_export.runtimes._server_settings import ENCODING, MODEL, SEQUENCES, URL, check_encoding, split_url


@dataclass(frozen=True)
class ServerAddress:
    """A model on a live server.

    Attributes:
        url: http://HOST:PORT, https://HOST:PORT or grpc://HOST:PORT.
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
        split_url(self.url)
        check_encoding(self.encoding)

    @property
    def environ(self) -> dict[str, str]:
        """The variables that the child reads."""
        held = "1" if self.holds_state else ""
        return {URL: self.url, MODEL: self.model, ENCODING: self.encoding, SEQUENCES: held}
