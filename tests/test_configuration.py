"""A project's file: what it says is what is read, and a mistake in it is named with its place and what is allowed."""

from pathlib import Path

import pytest

from rnn_export.configuration import find_configuration, read_configuration
from rnn_export.errors import UsageError

WHOLE = """
runtimes = ["onnxruntime-cpu", "onnxruntime@1.24.1"]
timeout = 5
strict = true

[[network]]
name = "tagger"
source = "nets/tagger.pt"
prefix = "encoder.rnn"
nonlinearity = "relu"
batch-first = true
head = "out"
dtype = "float16"
forms = ["scan", "unrolled"]
steps = 20
opset = 20
lengths = false
runtimes = ["tract"]

[[network]]
source = "nets/plain.safetensors"

[[known-failure]]
runtime = "tract"
network = "tagger"
form = "scan"
case = "T=0 B=3"
code = "no-steps"
reason = "it has no empty sequences"
"""
LEAST = 'runtimes = ["onnxruntime-cpu"]\n[[network]]\nsource = "net.pt"\n'
KNOWN = LEAST + '[[known-failure]]\nruntime = "onnxruntime-cpu"\nreason = "x"\n'


def written(folder: Path, text: str, name: str = "rnn-export.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


class TestReading:
    def test_every_key_is_read(self, tmp_path):
        found = read_configuration(written(tmp_path, WHOLE))
        tagger, plain = found.networks
        assert (found.timeout, found.strict) == (5, True)
        assert (tagger.name, tagger.source) == ("tagger", tmp_path / "nets/tagger.pt")
        assert (tagger.forms, tagger.steps, tagger.opset, tagger.lengths) == (("scan", "unrolled"), 20, 20, False)
        assert tagger.runtimes == ("tract",)
        said = {"prefix": "encoder.rnn", "nonlinearity": "relu", "batch_first": True, "head": "out", "dtype": "float16"}
        assert tagger.reading == said
        assert (plain.name, plain.runtimes) == ("plain", ("onnxruntime-cpu", "onnxruntime@1.24.1"))
        (known,) = found.known
        assert (known.runtime, known.network, known.form) == ("tract", "tagger", "scan")
        assert (known.case, known.code, known.reason) == ("T=0 B=3", "no-steps", "it has no empty sequences")
        assert known.place == f"known-failure 1 in {tmp_path / 'rnn-export.toml'}, line 23"

    def test_what_is_not_said_is_as_the_commands_have_it(self, tmp_path):
        found = read_configuration(written(tmp_path, LEAST))
        (network,) = found.networks
        assert (found.timeout, found.strict, found.known) == (60.0, False, ())
        assert (network.forms, network.opset, network.lengths, network.steps) == (("scan",), 18, False, None)
        assert set(network.reading.values()) == {None}

    def test_a_spec_is_a_source_that_is_no_path(self, tmp_path):
        text = 'runtimes = ["tract"]\n[[network]]\nname = "small"\nsource = "rnn:3,4"\n'
        (network,) = read_configuration(written(tmp_path, text)).networks
        assert network.source == "rnn:3,4"

    def test_a_section_of_pyproject_is_the_same(self, tmp_path):
        section = WHOLE.replace("[[", "[[tool.rnn-export.").replace("\nruntimes", "\n[tool.rnn-export]\nruntimes", 1)
        file = written(tmp_path, f'[project]\nname = "x"\n{section}', "pyproject.toml")
        beside = read_configuration(written(tmp_path, WHOLE))
        found = read_configuration(file)
        assert found.networks == beside.networks
        assert found.known[0].place == f"known-failure 1 in {file}, line 26"


class TestFinding:
    def test_the_own_file_comes_before_pyproject(self, tmp_path):
        project = written(tmp_path, "[tool.rnn-export]\n", "pyproject.toml")
        assert find_configuration(tmp_path) == project
        own = written(tmp_path, "")
        assert find_configuration(tmp_path) == own

    def test_neither_is_a_usage_error_that_says_what_to_write(self, tmp_path):
        written(tmp_path, "[tool.other]\n", "pyproject.toml")
        with pytest.raises(UsageError, match=r"no rnn-export\.toml here.*docs/ci\.md"):
            find_configuration(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("runtimes = [", "is no TOML: "),
        ("", "names no network. Begin one with [[network]]"),
        ("network = 3\n", "line 1: network is 3. It has to be written as [[network]]"),
        ("network = [3]\n", "network is no table"),
        ('[[network]]\nsource = "a.pt"\n', "network 1 in {file}, line 1: no runtime has to compute it"),
        (LEAST + 'hed = "out"\n', "network 1 in {file}, line 4: the key 'hed' is not known. Did you mean 'head'?"),
        ("tiemout = 3\n" + LEAST, "{file}, line 1: the key 'tiemout' is not known. Did you mean 'timeout'?"),
        (LEAST + 'forms = ["scam"]\n', "line 4: unknown form 'scam'. Did you mean 'scan'?"),
        (LEAST + "forms = [3]\n", "line 4: forms holds 3. Write names in quotes"),
        (LEAST + 'forms = "scan"\n', "line 4: forms is 'scan'. It has to be a list of names"),
        (LEAST + 'runtimes = ["tracked"]\n', "line 4: unknown runtime 'tracked'. Did you mean 'tract'?"),
        (LEAST + 'dtype = "int8"\n', "line 4: dtype is 'int8'. There are: bfloat16, float16, float32, float64"),
        (LEAST + 'lengths = "yes"\n', "line 4: lengths is 'yes'. It has to be true or false"),
        (LEAST + "opset = true\n", "line 4: opset is True. It has to be a number"),
        (LEAST + "opset = -1\n", "line 4: opset is -1. It has to be above 0"),
        (LEAST + "steps = 5\n", "line 4: no form of this network has a fixed length. Leave steps out"),
        (LEAST + 'forms = ["unrolled"]\n', "line 2: form 'unrolled' has a fixed length. Give it: steps = 20"),
        (LEAST + 'name = "../x"\n', "line 4: '../x' is no name"),
        (LEAST.replace("net.pt", "rnn:3,4"), "line 2: random weights have no name"),
        (LEAST + '[[network]]\nsource = "net.npz"\n', "two networks are called 'net'"),
        ('runtimes = ["tract"]\n[[network]]\nname = "x"\n', "network 1 in {file}, line 2: lacks source"),
        (KNOWN, "known-failure 1 in {file}, line 4: says neither case nor code"),
        (KNOWN + 'code = "pading"\n', "line 7: code is 'pading'. Did you mean 'padding'?"),
        (KNOWN + 'code = "padding"\nnetwork = "nut"\n', "line 8: network is 'nut'. Did you mean 'net'?"),
        (KNOWN + 'code = "padding"\nform = "rnn"\n', "line 8: form is 'rnn'. There are: scan"),
        (KNOWN.replace('reason = "x"\n', 'code = "padding"'), "line 4: lacks reason"),
        (KNOWN.replace('e = "onnxruntime-cpu"', 'e = "tract"'), "runtime is 'tract'. There are: onnxruntime-cpu"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_what_is_allowed(tmp_path, text, said):
    file = written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        read_configuration(file)
    assert said.replace("{file}", str(file)) in str(caught.value)


def test_a_known_failure_of_nothing_that_is_checked_is_a_mistake(tmp_path):
    text = WHOLE.replace('[[known-failure]]\nruntime = "tract"', '[[known-failure]]\nruntime = "onnxruntime-cpu"')
    with pytest.raises(UsageError, match=r"known-failure 1 .*: is about nothing that is checked"):
        read_configuration(written(tmp_path, text))


def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_configuration(tmp_path / "rnn-export.toml")
    (tmp_path / "rnn-export.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="is no TOML"):
        read_configuration(tmp_path / "rnn-export.toml")
