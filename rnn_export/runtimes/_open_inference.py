"""A client of the Open Inference Protocol, over HTTP as JSON or binary and over gRPC, by tritonclient.

One client belongs to one thread: tritonclient's HTTP connections are gevent's, which are bound to the thread that made
them.
"""

import re
from collections.abc import Mapping
from typing import Any

from rnn_export.runtimes._server_settings import BINARY_EXTENSION, check_encoding, split_url

BITS = "V2"  # numpy's name of a bfloat16's bits
_NO_SUCH_THING = ("404", "UNIMPLEMENTED")
# What gRPC itself says of a connection that broke or a time that is over; who else says it has not answered either
_NO_ANSWER = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED")
_TEXTS = ("name", "string_value", "data_file", "version")  # of a configuration, where digits are no number


class ServerError(Exception):
    """What the server answered instead, in its own words, or why it did not answer.

    Attributes:
        status: the server's, of HTTP or gRPC, such as "404"; empty where it did not answer, or was not asked.
    """

    def __init__(self, message: str, status: str = "") -> None:
        super().__init__(message)
        self.status = status


class Client:
    """One connection to a server.

    Args:
        url: see ``split_url``.
        encoding: of arrays over HTTP: "json", "binary", or "auto", which is binary where the server says it can.
        timeout: seconds for each request.

    Attributes:
        encoding: the one in use: json, binary or grpc.

    Raises:
        UsageError: the URL or the encoding is none.
        ServerError: with "auto" the server was asked, and did not answer.
    """

    def __init__(self, url: str, encoding: str = "auto", timeout: float = 60.0) -> None:
        scheme, address = split_url(url)
        check_encoding(encoding)
        self._over_grpc = scheme == "grpc"
        self._metadata: dict[str, dict[str, Any]] = {}
        self._protocol: Any
        if self._over_grpc:
            from tritonclient import grpc

            self._protocol, self._limit = grpc, {"client_timeout": timeout}
            self._client: Any = grpc.InferenceServerClient(address)
            self.encoding = "grpc"
        else:
            from tritonclient import http

            self._protocol, self._limit = http, {}
            limits = {"connection_timeout": timeout, "network_timeout": timeout}
            self._client = http.InferenceServerClient(address, ssl=scheme == "https", **limits)
            self.encoding = self._chosen() if encoding == "auto" else encoding

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def live(self) -> bool:
        return bool(self._ask("is_server_live"))

    def ready(self) -> bool:
        return bool(self._ask("is_server_ready"))

    def model_ready(self, model: str) -> bool:
        return bool(self._ask("is_model_ready", model))

    def server(self) -> dict[str, Any]:
        """The server's name, version and extensions."""
        return self._document("get_server_metadata")

    def metadata(self, model: str) -> dict[str, Any]:
        """The model's inputs and outputs: name, datatype and shape each; asked once."""
        if model not in self._metadata:
            found = self._document("get_model_metadata", model)
            shapes = {kind: [{"shape": [], **one} for one in found.get(kind) or []] for kind in ("inputs", "outputs")}
            self._metadata[model] = {**found, **shapes}
        return self._metadata[model]

    def config(self, model: str) -> dict[str, Any] | None:
        """The model's configuration; None where the server has no such thing: it is an extension of Triton's."""
        found = self._extension("get_model_config", model)
        return found and found.get("config", found)  # gRPC has it in an envelope

    def statistics(self, model: str) -> tuple[int, int] | None:
        """How many requests were answered in how many runs of the model; None where the server does not count."""
        found = self._extension("get_inference_statistics", model)
        if not found or not found.get("model_stats"):
            return None
        (counts,) = found["model_stats"]
        return int(counts["inference_stats"]["success"].get("count", 0)), int(counts.get("execution_count", 0))

    def _extension(self, question: str, model: str) -> dict[str, Any] | None:
        try:
            return self._document(question, model)
        except ServerError as error:
            if error.status in _NO_SUCH_THING:
                return None
            raise

    def infer(
        self, model: str, inputs: Mapping[str, Any], sequence: int = 0, *, start: bool = False, end: bool = False
    ) -> dict[str, Any]:
        """One request with these arrays; every output of the model.

        Args:
            model: its name on the server.
            inputs: named arrays, sent in the shapes that they have; bfloat16 as bits.
            sequence: the id of the sequence that the request belongs to; 0 for none.
            start, end: whether it is the first or the last of its sequence.

        Raises:
            ServerError: it was refused, or not answered.
        """
        sent = [self._input(name, array) for name, array in inputs.items()]
        identity = {"sequence_id": sequence, "sequence_start": start, "sequence_end": end} if sequence else {}
        answer = self._ask("infer", model, sent, outputs=self._wanted(model), **identity)
        response = answer.get_response()
        named = (
            [one.name for one in response.outputs] if self._over_grpc else [one["name"] for one in response["outputs"]]
        )
        return {name: answer.as_numpy(name) for name in named}

    def load(self, name: str, config: str, files: Mapping[str, bytes]) -> None:
        """Load a model into a Triton in explicit mode: its configuration as JSON, and its files by their places."""
        given = {f"file:{place}": data for place, data in files.items()}
        self._ask("load_model", name, config=config or None, files=given or None)

    def unload(self, name: str) -> None:
        self._ask("unload_model", name)

    def _chosen(self) -> str:
        return "binary" if BINARY_EXTENSION in (self.server().get("extensions") or []) else "json"

    def _ask(self, question: str, *given: Any, **named: Any) -> Any:
        from tritonclient.utils import InferenceServerException

        try:
            return getattr(self._client, question)(*given, **named, **self._limit)
        except InferenceServerException as error:
            status = str(error.status() or "").removeprefix("StatusCode.")
            # tritonclient looks for an error as Triton words it, and otherwise keeps the body of the answer.
            words = str(error.message() if self._over_grpc else error.debug_details() or error.message())
            if status in _NO_ANSWER:
                raise ServerError(_one_line(f"no answer: {status} {words}")) from None
            raise ServerError(_one_line(f"[{status}] {words}" if status else words), status) from None
        except Exception as error:  # whatever breaks a connection: each library has its own
            raise ServerError(_one_line(f"no answer: {type(error).__name__} {error}")) from None

    def _document(self, question: str, *given: Any) -> dict[str, Any]:
        found = self._ask(question, *given, **({"as_json": True} if self._over_grpc else {}))
        document: dict[str, Any] = _with_numbers(found)
        return document

    def _input(self, name: str, array: Any) -> Any:
        from tritonclient.utils import np_to_triton_dtype

        if array.dtype == BITS:
            import ml_dtypes

            array = array.view(ml_dtypes.bfloat16)
        tensor = self._protocol.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
        binary = {} if self._over_grpc else {"binary_data": self.encoding == "binary"}
        try:
            tensor.set_data_from_numpy(array, **binary)
        except Exception as error:
            raise ServerError(_one_line(f"cannot be sent as {self.encoding}: {error}")) from None
        return tensor

    def _wanted(self, model: str) -> list[Any] | None:
        """As JSON, the outputs are named: what is not asked for comes as bytes."""
        if self.encoding != "json":
            return None
        named = [one["name"] for one in self.metadata(model)["outputs"]]
        return [self._protocol.InferRequestedOutput(name, binary_data=False) for name in named]


def _with_numbers(value: Any) -> Any:
    """A document in which gRPC's 64-bit numbers are numbers: its JSON has them as text."""
    if isinstance(value, dict):
        return {name: one if name in _TEXTS else _with_numbers(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_with_numbers(one) for one in value]
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?[0-9]+", value) else value


def _one_line(text: str) -> str:
    return " ".join(text.split())[:2000]
