"""``export``: what is made is said as data, what is assumed as talk, and what is wrong in one line."""

import errno
import json
import os
import resource
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from rnn_export.artifact import Artifact
from rnn_export.element_types import FLOATS
from tests.cli.conftest import run_cli
from tests.test_checkpoint import BAD, ZEROS, saved

REAL = Path(__file__).parent.parent.parent.parent / "shared" / "checkpoints"


class TestMaking:
    def test_one_line_of_data_and_the_talk_beside_it(self, cli, tmp_path):
        found = cli("export", "rnn:3,4,relu", "-o", tmp_path / "out")
        size = (tmp_path / "out" / "model.onnx").stat().st_size
        assert found == (
            0,
            f"{tmp_path}/out: RNN(3 -> 4, relu), float32, form scan, opset 18, model.onnx {size:,} bytes\n",
            f"note: random weights, seed 0\nnext: rnn-export verify {tmp_path}/out --runtime onnxruntime-cpu\n",
        )
        assert str(Artifact.load(tmp_path / "out").spec) == "RNN(3 -> 4, relu)"

    def test_a_form_that_changes_the_network_says_so(self, cli, tmp_path):
        found = cli("export", "rnn:3,4", "-o", tmp_path / "out", "--form", "int8")
        assert found.code == 0
        assert "note: form int8 computes another network, with recurrent weights of 8 bits" in found.err
        assert "note: form int8 pays at batch 1 from about 512 hidden units" in found.err
        found = cli("export", "rnn:3,4", "-o", tmp_path / "half", "--form", "int8", "--dtype", "float16")
        assert found.code == 2
        assert "quantises networks in float32, and this one is in float16" in found.err
        assert not (tmp_path / "half").exists()

    def test_every_option_reaches_the_artifact(self, cli, tmp_path):
        save_file({f"net.rnn.{name}": array for name, array in ZEROS.items()}, tmp_path / "net.safetensors")
        options = ["--form", "rnn", "--opset", "15", "--prefix", "net.rnn", "--nonlinearity", "relu", "--batch-first"]
        found = cli("export", tmp_path / "net.safetensors", "-o", tmp_path / "out", *options)
        assert found.code == 0
        assert "note: recurrent part 'net.rnn'" in found.err
        made = Artifact.load(tmp_path / "out")
        assert (made.form, made.opset) == ("rnn", 15)
        assert str(made.spec) == "RNN(3 -> 4, relu, no bias, batch first)"

    def test_what_had_to_be_assumed_is_said(self, cli, tmp_path):
        save_file(ZEROS, tmp_path / "net.safetensors")
        found = cli("export", tmp_path / "net.safetensors", "-o", tmp_path / "out")
        assert "note: assumed tanh" in found.err
        assert "note:" not in found.out

    @pytest.mark.parametrize("dtype", FLOATS)
    def test_the_type_is_asked_for_said_and_recorded(self, cli, tmp_path, dtype):
        found = cli("export", "rnn:3,4", "-o", tmp_path / "out", "--dtype", dtype)
        assert found.code == 0
        assert f"RNN(3 -> 4, tanh), {dtype}, form scan" in found.out
        how = {"float32": None, "float64": "exactly"}.get(dtype, "each rounded to nearest")
        note = f"note: float32 weights converted to {dtype}, {how}"
        assert (note in found.err) == (dtype != "float32")
        manifest = Artifact.load(tmp_path / "out").manifest
        assert manifest["dtype"] == dtype
        assert manifest["source"].get("dtype") == (None if dtype == "float32" else "float32")

    def test_a_dry_run_says_what_would_be_written_and_writes_nothing(self, cli, tmp_path):
        found = cli("export", "rnn:3,4", "-o", tmp_path / "out", "--dtype", "float16", "--dry-run")
        assert found.code == 0
        assert (
            found.out == f"{tmp_path / 'out'}: RNN(3 -> 4, tanh), float16, form scan, opset 18; nothing was written\n"
        )
        assert "note: float32 weights converted to float16" in found.err
        found = cli("export", "rnn:3,4", "-o", tmp_path / "out", "--form", "unrolled", "--dry-run")
        assert (found.code, "form 'unrolled' has a fixed length" in found.err) == (2, True)
        found = cli("export", "rnn:3,4", "-o", tmp_path / "out", "--form", "auto", "--for", "torch", "--dry-run")
        assert (found.code, "tries the forms on their runtimes" in found.err) == (2, True)
        assert list(tmp_path.iterdir()) == []

    def test_a_kernel_that_a_runtime_lacks_is_said_with_the_form_that_it_has(self, cli, tmp_path):
        found = cli("export", "rnn:3,4", "-o", tmp_path / "out", "--form", "rnn", "--dtype", "float64")
        names = "mlserver, onnxruntime-cpu, onnxruntime-node, onnxruntime-web, triton"
        said = f"no RNN kernel for float64 in {names}, which will refuse this file: form blocked or hoisted or "
        assert (found.code, f"note: {said}" in found.err) == (0, True)
        found = cli("export", "rnn:3,4", "-o", tmp_path / "out", "--dtype", "bfloat16")
        said = f"no Gemm kernel for bfloat16 in {names}, which will refuse this file: choose another --dtype for them"
        assert (found.code, f"note: {said}" in found.err) == (0, True)

    def test_a_form_that_has_no_bfloat16_in_that_opset_is_a_usage_error(self, cli, tmp_path):
        found = cli("export", "rnn:3,4", "-o", tmp_path / "out", "--form", "rnn", "--dtype", "bfloat16")
        assert (found.code, found.out) == (2, "")
        assert "form 'rnn' cannot be drawn in opset 18 in bfloat16. Choose 22 to" in found.err
        assert not (tmp_path / "out").exists()

    def test_weights_that_the_type_cannot_hold_are_refused_by_name(self, cli, tmp_path):
        save_file({**ZEROS, "weight_hh_l0": np.full((4, 4), 7e4, np.float32)}, tmp_path / "net.safetensors")
        found = cli("export", tmp_path / "net.safetensors", "-o", tmp_path / "out", "--dtype", "float16")
        assert (found.code, found.out, len(found.err.splitlines())) == (3, "", 1)
        assert "weight_hh_l0 reaches 70000, which float16 cannot hold" in found.err
        assert not (tmp_path / "out").exists()

    def test_exporting_again_replaces_the_whole(self, cli, tmp_path):
        for spec in ("rnn:3,4,layers=3", "rnn:2,3"):
            assert cli("export", spec, "-o", tmp_path / "out").code == 0
        assert str(Artifact.load(tmp_path / "out").spec) == "RNN(2 -> 3, tanh)"


class TestBadInput:
    @pytest.mark.parametrize("kind", BAD)
    def test_it_is_one_line_with_code_3_and_nothing_is_written(self, cli, tmp_path, kind):
        make, words = BAD[kind]
        (tmp_path / "in").mkdir()
        found = cli("export", make(tmp_path / "in"), "-o", tmp_path / "out")
        assert (found.code, found.out) == (3, "")
        (line,) = found.err.splitlines()
        assert line.startswith("rnn-export: error: ")
        assert words in line
        assert [path.name for path in tmp_path.iterdir()] == ["in"]

    @pytest.mark.parametrize("spec", ["rnn:", "rnn:4", "rnn:4,x", "rnn:4,8,gelu", "rnn:0,8", "rnn:4,8,layers=0"])
    def test_a_wrong_spec_string_is_one_line_with_code_3(self, cli, tmp_path, spec):
        found = cli("export", spec, "-o", tmp_path / "out")
        assert (found.code, found.out, len(found.err.splitlines())) == (3, "", 1)
        assert not (tmp_path / "out").exists()

    def test_two_parts_are_listed_and_the_choice_is_asked_for(self, cli, tmp_path):
        tensors = {f"{at}.{name}": array for at in ("encoder", "decoder") for name, array in ZEROS.items()}
        save_file(tensors, tmp_path / "net.safetensors")
        found = cli("export", tmp_path / "net.safetensors", "-o", tmp_path / "out")
        assert found.code == 3
        assert "Choose with --prefix. There are: " in found.err
        assert "encoder" in found.err
        assert "decoder" in found.err
        assert not (tmp_path / "out").exists()

    @pytest.mark.skipif(not REAL.is_dir(), reason="the real checkpoints (../shared/checkpoints) are not here")
    @pytest.mark.parametrize("name", ["spro_legacy_tar_MIT.pt", "latifb_single_matrix_MIT.pth"])
    def test_what_a_real_checkpoint_does_not_have_is_one_line_with_code_3(self, cli, tmp_path, name):
        found = cli("export", REAL / name, "-o", tmp_path / "out", "--prefix", "encoder")
        assert (found.code, found.out, len(found.err.splitlines())) == (3, "", 1)
        assert f"{name} has no recurrent part 'encoder'. There are: i2h" in found.err
        assert not (tmp_path / "out").exists()

    @pytest.mark.slow
    def test_a_torchscript_file_is_refused_in_one_line(self, tmp_path):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.script(torch.nn.RNN(3, 4)).save(tmp_path / "net.pt")
        found = run_cli("export", tmp_path / "net.pt", "-o", tmp_path / "out")
        assert (found.code, found.out, len(found.err.splitlines())) == (3, "", 1)


class TestBadPlaces:
    def test_somebody_elses_folder_is_kept(self, cli, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("mine")
        found = cli("export", "rnn:3,4", "-o", tmp_path / "out")
        assert (found.code, found.out) == (2, "")
        assert f"{tmp_path}/out exists and is nothing that this command made" in found.err
        assert (tmp_path / "out" / "thesis.txt").read_text() == "mine"

    @pytest.mark.parametrize(
        "place",
        ["/", ".", "", "a**b", "x" * 250, "x" * 300],
        ids=["root", "here", "empty", "pattern", "long", "longer"],
    )
    def test_an_odd_place_is_no_internal_error(self, tmp_path, place):
        found = run_cli("export", "rnn:3,4", "-o", place, cwd=tmp_path)
        assert found.code in (0, 2)
        assert "Traceback" not in found.err

    def test_a_disk_that_takes_no_more_is_said_with_the_place_and_the_reason(self, tmp_path):
        """A limit on the size of a file stands for the disk: the write itself fails, in the middle of a file."""

        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

        assert run_cli("export", "rnn:3,4", "-o", tmp_path / "out").code == 0
        before = (tmp_path / "out" / "manifest.json").read_bytes()
        found = run_cli("export", "rnn:64,128", "-o", tmp_path / "out", preexec_fn=limit)
        assert (found.code, found.out) == (2, "")
        assert f"{tmp_path}/out cannot be written: {os.strerror(errno.EFBIG)}" in found.err
        assert [path.name for path in tmp_path.iterdir()] == ["out"]
        assert (tmp_path / "out" / "manifest.json").read_bytes() == before

    def test_a_full_disk_is_said_too(self, tmp_path):
        place = tmp_path / "small"
        place.mkdir()
        line = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
        mounted = subprocess.run(line, capture_output=True, text=True, check=False)
        if mounted.returncode:
            pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.strip()}")
        try:
            found = run_cli("export", "rnn:64,128", "-o", place / "out")
            assert (found.code, found.out) == (2, "")
            assert f"{place}/out cannot be written: No space left on device" in found.err
            assert list(place.iterdir()) == []
        finally:
            subprocess.run(["umount", str(place)], check=True)  # noqa: S607


def test_the_weights_are_the_checkpoints_to_the_last_bit(cli, tmp_path):
    network = torch.nn.RNN(3, 4, num_layers=2)
    assert cli("export", saved(tmp_path, network.state_dict()), "-o", tmp_path / "out").code == 0
    found = Artifact.load(tmp_path / "out").weights()
    for name, tensor in network.state_dict().items():
        assert np.array_equal(found[name], tensor.numpy())
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["source"]["name"] == "net.pt"
