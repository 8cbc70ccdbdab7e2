"""What may be sent to a server, before any is asked."""

import pytest

from rnn_export.bundle import Bundle
from rnn_export.errors import ArtifactError, UsageError
from rnn_export.pushing import _content
from rnn_export.shipping import Order
from tests.shipped import forged, shipped


def test_a_bundle_of_data_is_sent_whole(tmp_path):
    bundle = shipped("rnn:3,4", tmp_path, Order("triton", mode="streaming"))
    config, files = _content(bundle, allow_code=False)
    assert list(files) == ["1/model.onnx"]
    assert '"initial_state"' in config


def test_code_is_sent_where_it_was_allowed_only(tmp_path):
    bundle = shipped("rnn:3,4", tmp_path, Order("triton-python", mode="streaming"))
    with pytest.raises(UsageError, match=r"1/model.py, which the server would run"):
        _content(bundle, allow_code=False)
    assert set(_content(bundle, allow_code=True)[1]) == {"1/model.onnx", "1/model.py", "1/h_0"}


@pytest.mark.parametrize(
    ("place", "backend"),
    [("1/libtriton_evil.so", "evil"), ("1/plugin.so", "onnxruntime"), ("1/model.py", "onnxruntime")],
)
@pytest.mark.parametrize("allow_code", [False, True])
def test_what_ship_does_not_write_is_never_sent(tmp_path, place, backend, allow_code):
    """A library of a backend is code too, and Triton would load it from the model's own folder."""
    bundle = shipped("rnn:3,4", tmp_path, Order("triton"))
    folder = bundle.path / "models" / "net"
    (folder / place).write_bytes(b"code")
    config = folder / "config.pbtxt"
    config.write_text(config.read_text().replace('backend: "onnxruntime"', f'backend: "{backend}"'))
    forged(bundle.path)
    with pytest.raises(UsageError, match=r"nothing that ship puts there|may be run by the server"):
        _content(Bundle.load(bundle.path), allow_code)


def test_a_configuration_with_more_than_is_understood_is_not_sent(tmp_path):
    bundle = shipped("rnn:3,4", tmp_path, Order("triton"))
    config = bundle.path / "models" / "net" / "config.pbtxt"
    config.write_text(config.read_text() + 'some_new_field { library: "evil.so" }\n')
    forged(bundle.path)
    with pytest.raises(ArtifactError, match="some_new_field"):
        _content(Bundle.load(bundle.path), allow_code=False)


def test_a_library_that_the_configuration_names_is_not_sent(tmp_path):
    bundle = shipped("rnn:3,4", tmp_path, Order("triton"))
    config = bundle.path / "models" / "net" / "config.pbtxt"
    config.write_text(config.read_text() + 'model_operations { op_library_filename: "evil.so" }\n')
    forged(bundle.path)
    with pytest.raises(UsageError, match="op_library_filename"):
        _content(Bundle.load(bundle.path), allow_code=False)
