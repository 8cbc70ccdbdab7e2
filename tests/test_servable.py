"""What a folder holds for a server to load, and what is refused with words."""

import shutil

import pytest

from rnn_export.bundle import Bundle
from rnn_export.errors import ArtifactError, UsageError
from rnn_export.servable import read_servable
from rnn_export.shipping import Order
from tests.shipped import shipped
from tests.triton_models import add_model

SMALL = 'backend: "python"\n'


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    return shipped("rnn:3,4", tmp_path_factory.mktemp("shipped"), Order("triton-python", name="rnn"))


def test_a_bundle_is_for_the_server_of_its_target(bundle):
    served = read_servable(bundle.path)
    assert (served.server, served.names, served.bundle) == ("triton", ("rnn",), True)
    assert served.folder == bundle.path / "models"


def test_a_bundle_of_another_target_is_refused_with_what_runs_here(tmp_path):
    other = shipped("rnn:3,4", tmp_path, Order("triton"))
    with pytest.raises(UsageError, match=r"has the python backend alone\. Ship it with --target triton-python"):
        read_servable(other.path)


def test_a_bundle_that_was_changed_is_not_served(bundle, tmp_path):
    shutil.copytree(bundle.path, tmp_path / "bundle")
    code = tmp_path / "bundle" / "models" / "rnn" / "1" / "model.py"
    code.write_text(code.read_text() + "import os\n")
    with pytest.raises(ArtifactError, match=r"model\.py"):
        read_servable(tmp_path / "bundle")


def test_a_model_repository_is_for_triton(tmp_path):
    add_model(tmp_path, "a", SMALL)
    (tmp_path / "b" / "1").mkdir(parents=True)
    (tmp_path / "notes").mkdir()
    (tmp_path / "README.md").write_text("")
    assert read_servable(tmp_path).names == ("a", "b")


@pytest.mark.parametrize(
    ("config", "file"),
    [
        ('backend: "onnxruntime"\n', "model.onnx"),
        ('name: "a"\n  platform : "onnxruntime_onnx"\n', "model.onnx"),
        ("max_batch_size: 0\n", "model.onnx"),
    ],
    ids=["backend", "platform", "as Triton guesses"],
)
def test_the_backend_that_this_triton_lacks_is_refused_by_name(config, file, tmp_path):
    folder = add_model(tmp_path, "a", config)
    (folder / "1" / "model.py").rename(folder / "1" / file)
    with pytest.raises(UsageError, match=r"/a is for the backend onnxruntime.*python backend alone.*triton-python"):
        read_servable(tmp_path)


def test_what_is_neither_is_refused_with_what_to_type(tmp_path):
    with pytest.raises(ArtifactError, match=r"does not exist\. Name a model repository.*or a bundle"):
        read_servable(tmp_path / "nothing")
    with pytest.raises(ArtifactError, match="is no model repository"):
        read_servable(tmp_path)
    assert read_servable(tmp_path, maybe_empty=True).names == ()


def test_one_model_is_no_repository_and_is_said_to_be_one(tmp_path):
    folder = add_model(tmp_path, "a", SMALL)
    with pytest.raises(UsageError, match=r"/a is one model\. Name the folder that holds it"):
        read_servable(folder)


def test_what_the_configuration_says_is_read_as_triton_reads_it(tmp_path):
    """A comment, a string with the word in it, and a value in single quotes."""
    config = "# backend: \"onnxruntime\"\nparameters { key: 'backend' value { string_value: 'x' } } backend: 'python'\n"
    folder = add_model(tmp_path, "a", config)
    (folder / "1" / "model.onnx").write_bytes(b"")
    assert read_servable(tmp_path).names == ("a",)
    (folder / "config.pbtxt").write_text("backend : 'onnx' 'runtime'\n")
    with pytest.raises(UsageError, match="python backend alone"):
        read_servable(tmp_path)
