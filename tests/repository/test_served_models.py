"""What is proved is what Triton would serve: each version of it, and no file that lies there for show."""

import shutil
from pathlib import Path

import onnx
import pytest

from rnn_export.model_config import parse_config
from rnn_export.repository.backends import backend_of
from rnn_export.repository.checking import check_repository
from rnn_export.repository.data_types import DATA_TYPES, DTYPES
from rnn_export.repository.other_programs import OUR_CODE, is_ours
from rnn_export.repository.versions import served_versions, versions_in
from rnn_export.result import Status
from scripts.wrong.repositories import network, stateless, write

PLAIN_CODE = OUR_CODE.parent / "plain" / "model.py"  # which loads the file that a parameter names


def found(folder: Path) -> list[tuple[str, Status]]:
    return [(row.case, row.status) for row in check_repository(folder).results if row.code]


def policy(text: str) -> dict[str, object]:
    kind, _, value = text.partition(" ")
    values = {"latest": {"num_versions": value}, "all": {}, "specific": {"versions": value.split()}, "": None}
    return {"version_policy": {kind: values[kind]} if kind else {}}


class TestVersions:
    """Of two, the older is wrong: time is its axis 0."""

    @pytest.fixture
    def repository(self, tmp_path: Path) -> Path:
        folder = write(tmp_path / "repository", network(batch_first=False), stateless())
        (folder / "lstm" / "2").mkdir()
        onnx.save(network(), folder / "lstm" / "2" / "model.onnx")
        return folder

    @pytest.mark.parametrize("said", ["latest 2", "latest 3", "all", "specific 1", "specific 1 2", ""])
    def test_a_wrong_one_that_is_served_is_found(self, said, repository):
        write(repository, None, stateless(**policy(said)))
        assert found(repository) == [("lstm/1 T2", Status.MISMATCH)]

    @pytest.mark.parametrize("said", ["latest 1", "specific 2", None])
    def test_a_wrong_one_that_is_not_served_is_not_in_the_way(self, said, repository):
        write(repository, None, stateless(**({} if said is None else policy(said))))
        report = check_repository(repository)
        assert (report.exit_code, found(repository)) == (0, [])
        assert any("of its versions 1, 2 Triton serves, and here is checked: 2" in row.detail for row in report.results)

    def test_the_details_name_the_version_where_there_are_several(self, repository):
        write(repository, None, stateless(**policy("all")))
        details = [row.detail for row in check_repository(repository).results if row.code]
        assert [detail.split(":")[0] for detail in details] == ["version 1"]

    def test_one_that_is_named_and_not_there(self, repository):
        write(repository, None, stateless(**policy("specific 2 7")))
        assert found(repository) == [("lstm/7 T10", Status.MISMATCH)]

    @pytest.mark.parametrize("said", ["latest 0", "specific "])
    def test_none_is_served(self, said, repository):
        write(repository, None, stateless(**policy(said)))
        (row,) = (row for row in check_repository(repository).results if row.code)
        assert (row.code, row.status) == ("unreadable", Status.MISMATCH)
        assert "version_policy serves none of 1, 2" in row.detail

    def test_numbers_are_read_as_triton_does(self, tmp_path):
        """Seen in tritonserver 2.51.0: 0 and +5 are versions, 20x is version 20 in the folder 20, 011 is none."""
        for name in ("0", "011", "1", "+5", "20x", "latest", "warmup"):
            (tmp_path / name).mkdir()
        assert versions_in(tmp_path) == [0, 1, 5, 20]
        assert served_versions(tmp_path, None) == [20]
        assert served_versions(tmp_path, parse_config("")) == [20]

    def test_a_model_may_begin_with_a_number(self, tmp_path):
        folder = write(tmp_path / "repository", network(), stateless(), name="2layers")
        assert found(folder) == []

    def test_hidden_models_are_served_too(self, tmp_path):
        folder = write(tmp_path / "repository", network(), stateless())
        write(folder, network(batch_first=False), stateless(), name=".hidden")
        assert found(folder) == [(".hidden/1 T2", Status.MISMATCH)]


class TestDecoys:
    """A right model.onnx lies there, and the server would run something else."""

    @pytest.fixture
    def ours(self, tmp_path: Path) -> Path:
        folder = write(tmp_path / "repository", network(), stateless(backend="python"))
        shutil.copyfile(OUR_CODE, folder / "lstm" / "1" / "model.py")
        return folder

    def test_code_of_ours_that_loads_another_file(self, ours):
        assert found(ours) == []
        shutil.copyfile(PLAIN_CODE, ours / "lstm" / "1" / "model.py")
        assert not is_ours(PLAIN_CODE)
        assert found(ours) == [("lstm/1 T2", Status.DIVERGENCE)]

    @pytest.mark.parametrize(
        "name",
        [
            *("1/onnxruntime.py", "numpy.pyc", "1/numpy/__init__.py", "1/__pycache__/model.pyc"),
            *("a.so", "triton_python_backend_stub"),
        ],
    )
    def test_programs_beside_our_code(self, name, ours):
        place = ours / "lstm" / name
        place.parent.mkdir(exist_ok=True)
        place.write_text("")
        (row,) = (row for row in check_repository(ours).results if row.code)
        assert (row.code, row.status) == ("T2", Status.DIVERGENCE)
        assert "may be run by the server too" in row.detail

    def test_an_environment_of_its_own(self, ours):
        write(ours, None, stateless(backend="python", parameters={"EXECUTION_ENV_PATH": {"string_value": "a.tar.gz"}}))
        assert found(ours) == [("lstm/1 T2", Status.DIVERGENCE)]

    def test_our_code_in_a_folder_does_not_run_what_lies_beside_it(self, ours):
        version, inner = ours / "lstm" / "1", ours / "lstm" / "1" / "in-side"
        inner.mkdir()
        shutil.move(version / "model.py", inner / "model.py")
        shutil.copyfile(version / "model.onnx", inner / "model.onnx")
        onnx.save(network(batch_first=False), version / "model.onnx")
        write(ours, None, stateless(backend="python", default_model_filename="in-side/model.py"))
        assert found(ours) == [("lstm/1 T2", Status.MISMATCH)]

    @pytest.mark.parametrize(
        "changes",
        [
            {"cc_model_filenames": {"8.9": "other.onnx"}},
            {"runtime": "libtriton_other.so"},
            {"model_operations": {"op_library_filename": ["operators.so"]}},
            {"model_repository_agents": {"agents": [{"name": "other"}]}},
            {"parameters": {"TRITON_BATCH_STRATEGY_PATH": {"string_value": "/batchstrategy.so"}}},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_fields_that_put_something_else_in_its_place(self, changes, tmp_path):
        (row,) = (
            row
            for row in check_repository(write(tmp_path / "repository", network(), stateless(**changes))).results
            if row.code
        )
        assert (row.code, row.status) == ("T2", Status.DIVERGENCE)
        assert "so that the server runs something else too" in row.detail

    @pytest.mark.parametrize("name", ["libtriton_onnxruntime.so", "1/batchstrategy.so"])
    def test_libraries_that_triton_takes_before_its_own(self, name, tmp_path):
        folder = write(tmp_path / "repository", network(), stateless())
        (folder / "lstm" / name).write_bytes(b"")
        assert found(folder) == [("lstm/1 T2", Status.DIVERGENCE)]

    @pytest.mark.parametrize("name", ["model.plan", "model.graphdef"])
    def test_a_file_that_triton_looks_for_first(self, name, tmp_path):
        folder = write(tmp_path / "repository", network(), stateless(backend=None))
        (folder / "lstm" / "1" / name).write_bytes(b"")
        assert found(folder) == [("lstm/1 T2", Status.DIVERGENCE)]

    @pytest.mark.parametrize(
        ("files", "text", "backend"),
        [
            (["1/model.onnx", "1/model.py"], "", "onnxruntime"),
            (["1/model.py", "2/model.onnx"], "", "python"),
            (["10/model.py", "9/model.onnx"], "", "python"),
            (["1/model.plan/a", "1/model.py"], "", "python"),
            (["1/model.onnx/model.onnx"], "", "onnxruntime"),
            (["1/other.onnx"], "", ""),
            (["1/model.onnx"], 'default_model_filename: "other.onnx"', ""),
            (["1/model.onnx"], 'default_model_filename: "model.py"', "python"),
            (["1/model.onnx"], 'platform: "tensorrt_plan"', "tensorrt_plan"),
            (["1/model.plan"], 'platform: "onnxruntime_onnx"', "onnxruntime"),
        ],
    )
    def test_the_backend_is_found_as_triton_finds_it(self, files, text, backend, tmp_path):
        for file in files:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).touch()
        assert backend_of(tmp_path, parse_config(text)) == backend

    def test_a_name_under_which_it_is_read_otherwise(self, tmp_path):
        config = stateless(default_model_filename="model.ort")
        folder = write(tmp_path / "repository", network(), config, file="model.ort")
        assert ("lstm/1 unreadable", Status.MISMATCH) in found(folder)


class TestWeights:
    @pytest.fixture
    def repository(self, tmp_path: Path) -> Path:
        folder = write(tmp_path / "repository", None, stateless())
        large = {"save_as_external_data": True, "location": "weights", "size_threshold": 200}
        onnx.save(network(), folder / "lstm" / "1" / "model.onnx", **large)
        return folder

    def test_they_are_read_inside_of_the_repository_only(self, repository, tmp_path):
        assert found(repository) == []
        weights = repository / "lstm" / "1" / "weights"
        shutil.move(weights, tmp_path / "outside")
        (row, *_) = (row for row in check_repository(repository).results if row.code == "unreadable")
        assert "has weights in 'weights', which is not there" in row.detail
        weights.symlink_to(tmp_path / "outside")
        (row, *_) = (row for row in check_repository(repository).results if row.code == "unreadable")
        assert "is a link out of the repository" in row.detail

    @pytest.mark.parametrize("name", ["../weights", "/weights"])
    def test_they_are_looked_for_nowhere_else(self, name, repository):
        file = repository / "lstm" / "1" / "model.onnx"
        model = onnx.load(file, load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                entry.value = name if entry.key == "location" else entry.value
        file.write_bytes(model.SerializeToString())
        assert ("lstm/1 unreadable", Status.MISMATCH) in found(repository)


def test_there_is_one_table_of_types():
    assert set(DATA_TYPES.values()) == set(DTYPES) | {"TYPE_STRING"}
    assert {str(DTYPES[f"TYPE_{name}"]) for name in ("FP16", "FP32", "FP64", "BF16")} == {
        "float16", "float32", "float64", "bfloat16"
    }  # fmt: skip
