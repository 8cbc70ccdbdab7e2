"""The client of the Open Inference Protocol: what it can be told, what it is answered where no server is, and plans."""

import json
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
from rnn_export.runtimes._open_inference import Client, _fitted, _with_numbers, split_url
from rnn_export.runtimes._plans import _digest, carry_out
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

    @pytest.mark.parametrize("url", ["", "host:8000", "http://", "grpc://host", "grpc://:8001", "ftp://host:1"])
    def test_what_is_none_is_refused_with_an_example(self, url):
        with pytest.raises(UsageError, match=r"no address of a server\. Write http://HOST:PORT or grpc://HOST:PORT"):
            split_url(url)

    def test_an_unknown_encoding_is_refused(self):
        with pytest.raises(UsageError, match=r"unknown encoding 'xml'\. There are: auto, json, binary"):
            Client("http://127.0.0.1:8000", "xml")


class TestFitting:
    @pytest.mark.parametrize(
        ("shape", "wanted", "sent"),
        [((3,), [-1, 1], (3, 1)), ((3,), [-1], (3,)), ((3,), [-1, 2], (3,)), ((3, 2), None, (3, 2)), ((), [1], (1,))],
    )
    def test_only_a_last_axis_of_size_1_is_added(self, shape, wanted, sent):
        assert _fitted(np.zeros(shape), wanted).shape == sent

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

    def __init__(self, *, fails: bool = False) -> None:
        self.fails, self.asked, self.sequences = fails, 0, []

    def metadata(self, model):
        return {"inputs": [], "outputs": []}

    def infer(self, model, inputs, sequence, *, start, end):
        self.sequences.append((sequence, start, end))
        self.asked += 1
        return {"output": inputs["x"], "count": np.array([self.asked if self.fails else 0])}

    def close(self):
        pass


def carried_out(plan, clients, **arrays):
    waiting = iter(clients)
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

    def test_an_unknown_plan_says_which_there_are(self):
        with pytest.raises(UsageError, match=r"cannot do 'dance'\. It can do describe, requests, load and unload"):
            carry_out({"do": "dance"}, {}, lambda timeout: Answering(), "rnn")


def test_the_folder_is_passed_over(client_of):
    """The canary's folder is what it is given; no file of it is asked for."""
    assert RUNTIME.reads == "server"
    with pytest.raises(Failure) as caught:
        client_of().prepare(FOLDER / "nowhere")
    assert caught.value.status is Status.ABSENT
