"""The client of the Open Inference Protocol: what it can be told, what it is answered where no server is, and plans."""

import json
import time
from dataclasses import replace

import numpy as np
import pytest

from rnn_export.canary import FOLDER, sing
from rnn_export.child import Child, Failure
from rnn_export.environments import how_to_install, interpreter_of
from rnn_export.errors import UsageError
from rnn_export.result import Stage, Status
from rnn_export.runtimes import RUNTIMES
from rnn_export.runtimes._launching import free_ports
from rnn_export.runtimes._open_inference import Client, ServerError, _with_numbers
from rnn_export.runtimes._plans import _digest, carry_out
from rnn_export.runtimes._server_settings import split_url
from rnn_export.server_address import ServerAddress
from tests.subjects import PATIENCE

RUNTIME = RUNTIMES.get("open-inference")


@pytest.fixture
def client_of():
    """Starts a child that asks the server of these settings."""
    interpreter = interpreter_of(RUNTIME)
    if interpreter is None:
        pytest.skip(f"not installed: {how_to_install(RUNTIME)}")
    children = []

    def start(**settings: str) -> Child:
        environ = {f"RNN_EXPORT_SERVER_{name}": value for name, value in settings.items()}
        children.append(Child(replace(RUNTIME, environ=environ), interpreter, PATIENCE))
        children[-1].wait_until_ready()
        return children[-1]

    yield start
    for child in children:
        child.close()


class TestAddress:
    @pytest.mark.parametrize(
        ("url", "parts"),
        [
            ("http://127.0.0.1:8000", ("http", "127.0.0.1:8000")),
            ("http://host:80/path/", ("http", "host:80/path")),
            ("https://host", ("https", "host")),
            ("grpc://[::1]:8001", ("grpc", "[::1]:8001")),
        ],
    )
    def test_what_is_one(self, url, parts):
        assert split_url(url) == parts

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "host:8000",
            "http://",
            "http://:8000",
            "http://host:0",
            "http://host:65536",
            "http://host:port",
            "http://name:word@host:8000",
            "http://ho st:8000",
            "http://host:8000?x=1",
            "http://host:8000\n",
            "grpc://127.0.0.1",
            "grpc://:8001",
            "grpc://host:8001/path",
            "ftp://host:1",
        ],
    )
    @pytest.mark.parametrize("made", [split_url, ServerAddress, Client], ids=["parent", "address", "child"])
    def test_what_is_none_is_refused_with_an_example_before_anything_starts(self, url, made):
        with pytest.raises(UsageError, match=r"no address of a server\. Write http://HOST:PORT or grpc://HOST:PORT"):
            made(url)

    def test_an_unknown_encoding_is_refused_likewise(self):
        for made in (lambda: Client("http://127.0.0.1:8000", "xml"), lambda: ServerAddress("http://h", "rnn", "xml")):
            with pytest.raises(UsageError, match=r"'xml' is no encoding\. Choose auto, json, binary"):
                made()

    def test_the_child_reads_what_the_address_says(self, client_of):
        (port,) = free_ports(1)
        said = ServerAddress(f"http://127.0.0.1:{port}", "rnn", "json", holds_state=True).environ
        child = client_of(**{name.removeprefix("RNN_EXPORT_SERVER_"): value for name, value in said.items()})
        with pytest.raises(Failure, match="no answer") as caught:
            sing(child, "server")
        assert caught.value.status is Status.REFUSED  # and not ABSENT, as without a URL


class TestDocuments:
    def test_numbers_that_grpc_has_as_text_are_numbers_and_texts_stay_texts(self):
        found = _with_numbers({"dims": ["-1", "8"], "name": "8", "parameters": {"n": {"string_value": "1"}}, "k": "a1"})
        assert found == {"dims": [-1, 8], "name": "8", "parameters": {"n": {"string_value": "1"}}, "k": "a1"}


class TestNoServer:
    def test_without_a_url_it_is_absent_and_says_what_to_type(self, client_of):
        with pytest.raises(Failure, match="add --url http://HOST:PORT or grpc://HOST:PORT, and --model NAME") as caught:
            sing(client_of(), "server")
        assert (caught.value.stage, caught.value.status) == (Stage.PREPARE, Status.ABSENT)

    @pytest.mark.parametrize("scheme", ["http", "grpc"])
    def test_where_nobody_listens_it_is_refused_and_not_broken(self, client_of, scheme):
        (port,) = free_ports(1)
        child = client_of(URL=f"{scheme}://127.0.0.1:{port}", MODEL="rnn")
        with pytest.raises(Failure, match=r"(?i)ServerError: .*connect") as caught:
            sing(child, "server")
        assert (caught.value.stage, caught.value.status) == (Stage.PREPARE, Status.REFUSED)
        assert "\n" not in caught.value.detail


class Answering:
    """A client without a server: the first output is the input, the second how often it was asked before."""

    def __init__(self, *, fails: bool = False, errors: tuple[ServerError, ...] = ()) -> None:
        self.fails, self.asked, self.sequences, self.errors = fails, 0, [], list(errors)

    def metadata(self, model):
        return {"inputs": [], "outputs": []}

    def statistics(self, model):
        return None

    def infer(self, model, inputs, sequence, *, start, end):
        self.sequences.append((sequence, start, end))
        self.asked += 1
        if self.errors:
            raise self.errors.pop()
        return {"output": inputs["x"], "count": np.array([self.asked if self.fails else 0])}

    def close(self):
        pass


def carried_out(plan, clients, **arrays):
    waiting = iter([Answering(), *clients, Answering()])  # the first and the last ask how often the model ran
    found = carry_out({"do": "requests", **plan}, arrays, lambda timeout: next(waiting), "rnn")
    return json.loads(bytes(found.pop("report"))), found


class TestPlans:
    """How answers are counted; what real servers answer is in test_servers.py."""

    def test_equal_answers_are_one_and_different_ones_are_told_apart_by_their_bytes(self):
        steps = [{"key": "a"}, {"key": "b"}, {"key": "a"}]
        zeros = {"a:x": np.array([0.0]), "b:x": np.array([-0.0])}
        report, found = carried_out({"clients": [steps, steps], "rounds": 3}, [Answering(), Answering()], **zeros)
        assert (report["sent"], report["counts"], report["errors"]) == (18, {"a": [12], "b": [6]}, [])
        assert (len(found["latency"]), sorted(found)) == (
            18,
            ["a:0:count", "a:0:output", "b:0:count", "b:0:output", "latency"],
        )
        assert _digest({"x": zeros["a:x"]}) != _digest({"x": zeros["b:x"]})

    def test_more_distinct_answers_than_are_kept_are_counted(self):
        plan = {"clients": [[{"key": "a"}]], "rounds": 70}
        report, _ = carried_out(plan, [Answering(fails=True)], **{"a:x": np.zeros(2)})
        assert (report["counts"], report["dropped"]) == ({"a": [1] * 64}, 6)

    def test_errors_are_counted_with_the_servers_own_status_and_without_one_where_it_did_not_answer(self):
        refused, silent = ServerError("[400] a bad shape", "400"), ServerError("no answer: timed out")
        client = Answering(errors=(refused, silent, refused))
        report, _ = carried_out({"clients": [[{"key": "a"}]], "rounds": 4}, [client], **{"a:x": np.zeros(2)})
        assert report["errors"] == [["a", "[400] a bad shape", 2, "400"], ["a", "no answer: timed out", 1, ""]]
        assert (report["sent"], report["counts"]) == (4, {"a": [1]})

    def test_every_round_and_every_plan_has_sequences_of_its_own_shared_by_its_clients(self):
        steps = [{"key": "a", "sequence": 1, "start": True}, {"key": "a", "sequence": 2, "end": True}]
        clients = [Answering(), Answering(), Answering()]
        carried_out({"clients": [steps, steps], "rounds": 2}, clients[:2], **{"a:x": np.zeros(2)})
        carried_out({"clients": [steps]}, clients[2:], **{"a:x": np.zeros(2)})
        first, second, other = ([number for number, *_ in client.sequences] for client in clients)
        assert first == second
        assert len(set(first) | set(other)) == 6
        assert min(first) > 0
        assert clients[0].sequences[0][1:] == (True, False)

    def test_a_plan_for_some_time_ends_after_it_with_whole_sequences(self):
        steps = [{"key": "a", "sequence": 1, "start": True}, {"key": "a", "sequence": 1, "end": True}]
        client = Answering()
        report, _ = carried_out({"clients": [steps], "seconds": 0.05}, [client], **{"a:x": np.zeros(2)})
        assert 0.05 <= report["wall"] < 5
        assert client.sequences[-1][2] is True
        assert report["sent"] == client.asked > 2

    def test_a_client_that_cannot_be_made_is_an_error_and_no_endless_wait(self):
        def connect(timeout):
            raise UsageError("no such encoding")

        with pytest.raises(UsageError, match="no such encoding"):
            carry_out({"do": "requests", "clients": [[{"key": "a"}]] * 3}, {"a:x": np.zeros(1)}, connect, "rnn")

    def test_the_error_of_the_client_that_cannot_be_made_is_said_also_where_others_wait_for_it(self):
        made = iter([Answering(), Answering(), Answering()])

        def connect(timeout):
            if (client := next(made, None)) is None:
                time.sleep(0.1)  # until the others wait
                raise UsageError("one too many")
            return client

        with pytest.raises(UsageError, match="one too many"):
            carry_out({"do": "requests", "clients": [[{"key": "a"}]] * 3}, {"a:x": np.zeros(1)}, connect, "rnn")

    def test_an_unknown_plan_says_which_there_are(self):
        with pytest.raises(UsageError, match=r"cannot do 'dance'\. It can do describe, requests, load and unload"):
            carry_out({"do": "dance"}, {}, lambda timeout: Answering(), "rnn")


def test_the_folder_is_passed_over(client_of):
    """The canary's folder is what it is given; no file of it is asked for."""
    assert RUNTIME.reads == "server"
    with pytest.raises(Failure) as caught:
        client_of().prepare(FOLDER / "nowhere")
    assert caught.value.status is Status.ABSENT
