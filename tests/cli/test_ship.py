"""``ship``, ``probe`` and what they say where they cannot do it."""

import json

import pytest

from rnn_export.targets import TARGETS
from scripts.wrong.repositories import PAIRS
from tests.shipped import verified


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return verified("rnn:3,4", tmp_path_factory.mktemp("ship") / "my-rnn").path


class TestShip:
    def test_it_says_what_was_made_how_it_was_proved_and_what_comes_next(self, cli, net, tmp_path):
        found = cli("ship", net, "--target", "triton-python", "--streaming", "-o", tmp_path / "bundle")
        assert found.code == 0, found.err
        assert "my-rnn for triton-python, the server holds the state, input -> output, h_n; verified on" in found.out
        assert f"next: rnn-export serve {tmp_path / 'bundle'}" in found.err

    def test_the_targets_of_the_help_are_those_of_the_folder(self, cli):
        text = " ".join(cli("ship", "--help").out.split())
        assert [name for name in TARGETS.names() if name not in text] == []

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ((), "Name an ARTIFACT"),
            (("NET",), "--target"),
            (("NET", "--target", "triton"), "-o DIR"),
            (("NET", "--target", "nothing", "-o", "OUT"), "unknown target"),
            (("NET", "--check", "NET"), "--check DIR ships nothing"),
            (("--check", "NET", "--push", "http://127.0.0.1:9"), "--check DIR ships nothing"),
            (("NET", "--target", "triton", "-o", "OUT", "--streaming", "--client-state"), "choose one"),
        ],
    )
    def test_a_call_that_makes_no_sense_is_exit_code_2(self, cli, net, tmp_path, words, message):
        places = {"NET": net, "OUT": tmp_path / "out"}
        found = cli("ship", *(places.get(word, word) for word in words))
        assert (found.code, message in found.err) == (2, True), found.err
        assert not (tmp_path / "out").exists()

    def test_what_was_never_verified_is_exit_code_3(self, cli, tmp_path):
        cli("export", "rnn:3,4", "-o", tmp_path / "net")
        found = cli("ship", tmp_path / "net", "--target", "triton", "-o", tmp_path / "out")
        assert (found.code, "was never verified" in found.err) == (3, True)

    def test_a_bundle_is_not_shipped_again_but_pushed(self, cli, net, tmp_path):
        cli("ship", net, "--target", "triton", "-o", tmp_path / "bundle")
        found = cli("ship", tmp_path / "bundle", "--target", "triton", "-o", tmp_path / "other")
        assert (found.code, "is a bundle already" in found.err) == (2, True)


class TestCheck:
    def test_a_wrong_repository_is_exit_code_1_in_every_format(self, cli, tmp_path):
        PAIRS["T4"].wrong(tmp_path / "models")
        found = cli("ship", "--check", tmp_path / "models", "--report", tmp_path / "found.json")
        assert found.code == 1
        assert "[T4]" in found.out
        rows = json.loads((tmp_path / "found.json").read_text())["results"]
        assert {row["code"] for row in rows if row["code"]} == {"T4"}

    def test_a_right_one_is_exit_code_0(self, cli, tmp_path):
        PAIRS["T4"].right(tmp_path / "models")
        assert cli("ship", "--check", tmp_path / "models").code == 0

    def test_our_own_bundle_is_checked_as_a_whole_first(self, cli, net, tmp_path):
        cli("ship", net, "--target", "triton", "-o", tmp_path / "bundle")
        assert cli("ship", "--check", tmp_path / "bundle").code == 0
        (tmp_path / "bundle" / "models" / "my-rnn" / "config.pbtxt").write_text("max_batch_size: 0")
        found = cli("ship", "--check", tmp_path / "bundle")
        assert (found.code, "config.pbtxt" in found.err) == (3, True)


class TestProbe:
    def test_a_folder_that_is_nothing_of_ours_is_exit_code_3(self, cli, tmp_path):
        found = cli("probe", "http://127.0.0.1:9", "--artifact", tmp_path)
        assert (found.code, "manifest" in found.err) == (3, True)

    def test_a_url_and_a_folder_are_needed(self, cli, net):
        assert cli("probe", "--artifact", net).code == 2
        assert cli("probe", "http://127.0.0.1:9").code == 2
        assert "no address of a server" in cli("probe", "127.0.0.1:9", "--artifact", net).err


class TestVerify:
    def test_a_live_server_is_named_with_its_url_and_alone(self, cli, net):
        for words, message in (
            (("--url", "http://127.0.0.1:9"), "Add --runtime open-inference"),
            (("--model", "net"), "add --url"),
            (("--runtime", "open-inference", "--runtime", "onnxruntime-cpu"), "is verified apart"),
            (("--runtime", "open-inference", "--url", "ftp://x"), "no address of a server"),
        ):
            found = cli("verify", net, *words)
            assert (found.code, message in found.err) == (2, True), found.err
