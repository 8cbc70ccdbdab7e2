"""What the runtime ``open-inference`` is told by variables of its process, and what may stand in them."""

import re

from rnn_export.errors import UsageError

URL = "RNN_EXPORT_SERVER_URL"
MODEL = "RNN_EXPORT_SERVER_MODEL"
ENCODING = "RNN_EXPORT_SERVER_ENCODING"
SEQUENCES = "RNN_EXPORT_SERVER_SEQUENCES"  # "1": the server holds the state, and a run is a whole sequence

ENCODINGS = ("auto", "json", "binary")
BINARY_EXTENSION = "binary_tensor_data"  # a server that lists it takes and gives arrays as bytes behind the JSON
LAST_PORT = 65535
_HOST = r"\[[0-9A-Fa-f:.]+\]|[^\x00-\x20\x7f/:?#@\[\]]+"
_URL = re.compile(rf"(https?|grpc)://((?:{_HOST})(?::([0-9]{{1,5}}))?)((?:/[^\x00-\x20\x7f?#]*)?)")


def split_url(url: str) -> tuple[str, str]:
    """The scheme, http, https or grpc, and what is behind it.

    Raises:
        UsageError: it is no such URL; gRPC has no usual port and no paths.
    """
    if found := _URL.fullmatch(url):
        scheme, address, port, path = found.groups()
        usable = port is not None and path in ("", "/") if scheme == "grpc" else True
        if usable and (port is None or 0 < int(port) <= LAST_PORT):
            return scheme, (address + path).rstrip("/")
    raise UsageError(f"{url!r} is no address of a server", "Write http://HOST:PORT or grpc://HOST:PORT")


def check_encoding(encoding: str) -> None:
    """Raises UsageError where there is no such encoding of requests over HTTP."""
    if encoding not in ENCODINGS:
        raise UsageError(f"{encoding!r} is no encoding", f"Choose {', '.join(ENCODINGS)}")
