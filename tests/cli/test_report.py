"""``report``, and ``verify`` with formats: one result, any number of places, and nothing half-written."""

import json
from xml.etree import ElementTree as ET

import pytest

from rnn_export.reports import FORMATS
from tests.rows import failing_report, passing_report
from tests.test_layers import loaded_by

CPU = ("--runtime", "onnxruntime-cpu")
MACHINES = [item.name for item in FORMATS if item.render_error]


@pytest.fixture
def result(tmp_path):
    place = tmp_path / "result.json"
    place.write_text(FORMATS.get("json").render(failing_report()))
    return place


class TestReport:
    @pytest.mark.parametrize("name", [item.name for item in FORMATS])
    def test_every_format_is_rendered_from_the_file(self, cli, result, name):
        found = cli("report", result, "--format", name)
        assert (found.code, found.err) == (0, "")
        assert found.out == FORMATS.get(name).render(failing_report())

    def test_any_number_of_files_is_written(self, cli, result, tmp_path):
        found = cli("report", result, "-o", tmp_path / "a.html", "-o", tmp_path / "new" / "b.xml", "-o", result)
        assert found.code == 0
        assert (tmp_path / "a.html").read_text() == FORMATS.get("html").render(failing_report())
        assert (tmp_path / "new" / "b.xml").read_text() == FORMATS.get("junit").render(failing_report())
        assert json.loads(result.read_text()) == failing_report().to_dict()

    def test_a_file_that_is_no_result_is_refused(self, cli, tmp_path):
        found = cli("report", tmp_path / "result.json", "-o", tmp_path / "a.html")
        assert (found.code, found.out) == (3, "")
        assert "result.json cannot be read: No such file or directory. Check the path" in found.err
        assert list(tmp_path.iterdir()) == []

    def test_it_loads_nothing_heavy(self):
        loaded = loaded_by("import rnn_export.cli.report, rnn_export.report, rnn_export.reports.json")
        assert not loaded & {"torch", "onnx", "onnxruntime", "numpy", "matplotlib", "jinja2"}


class TestVerify:
    def test_it_is_printed_and_written_in_every_format_at_once(self, cli, artifact, tmp_path, monkeypatch):
        monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
        files = [tmp_path / f"x{item.suffix}" for item in FORMATS if item.suffix]
        found = cli("verify", artifact, *CPU, *(word for file in files for word in ("--report", file)))
        assert (found.code, found.err) == (0, "")
        assert found.out.splitlines()[-1].startswith("PASSED on onnxruntime-cpu (")
        assert sorted(file.name for file in tmp_path.iterdir()) == sorted(file.name for file in files)
        data = json.loads((tmp_path / "x.json").read_text())
        assert data["created"] == "1970-01-01T00:00:00Z"
        assert (tmp_path / "x.txt").read_text() == found.out
        again = tmp_path / "again.html"
        assert cli("report", tmp_path / "x.json", "-o", again).code == 0
        assert again.read_text() == (tmp_path / "x.html").read_text()

    @pytest.mark.parametrize(
        ("place", "words"),
        [
            ("x.foo", "has the suffix of no report"),
            ("file/x.json", "cannot be written"),
            ("folder.json", "is no file that could be replaced"),
        ],
    )
    def test_2_a_place_that_cannot_be_written_is_said_before_anything_runs(
        self, cli, artifact, tmp_path, monkeypatch, place, words
    ):
        (tmp_path / "file").touch()
        (tmp_path / "folder.json").mkdir()
        monkeypatch.setattr("rnn_export.pipeline.verify", lambda *_, **__: pytest.fail("it began"))
        found = cli("verify", artifact, *CPU, "--report", tmp_path / place)
        assert (found.code, found.out, len(found.err.splitlines())) == (2, "", 1)
        assert words in found.err

    @pytest.mark.parametrize("name", MACHINES)
    def test_3_machines_are_told_in_their_format_why_nothing_began(self, cli, tmp_path, name):
        found = cli("verify", tmp_path / "nothing", "--format", name)
        assert found.code == 3
        assert "Make it with rnn-export export SOURCE -o DIR" in found.out
        assert found.err.startswith("rnn-export: error: ")

    def test_3_the_json_of_an_error_is_a_document_with_the_exit_code(self, cli, tmp_path):
        files = ("--report", tmp_path / "x.json", "--report", tmp_path / "x.xml", "--report", tmp_path / "x.html")
        found = cli("verify", tmp_path / "nothing", "--format", "json", *files)
        document = json.loads(found.out)
        assert document == {
            "schema": 2,
            "error": {
                "kind": "ArtifactError",
                "message": f"{tmp_path / 'nothing'} does not exist",
                "hint": "Make it with rnn-export export SOURCE -o DIR",
            },
            "exit_code": 3,
        }
        assert json.loads((tmp_path / "x.json").read_text()) == document
        assert ET.parse(tmp_path / "x.xml").getroot().get("errors") == "1"  # noqa: S314
        assert not (tmp_path / "x.html").exists()  # only people read it

    def test_2_a_wrong_call_is_a_document_too(self, cli, artifact):
        found = cli("verify", artifact, "--format", "json", "--prefix", "x")
        assert found.code == 2
        assert json.loads(found.out)["error"]["message"].startswith("--prefix, --nonlinearity")

    def test_a_report_that_cannot_be_written_at_last_does_not_spoil_the_one_that_was_printed(
        self, cli, artifact, tmp_path, monkeypatch
    ):
        monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        found = cli("verify", artifact, *CPU, "--format", "json", "--report", tmp_path / "x.json")
        assert found.code == 2
        assert json.loads(found.out)["exit_code"] == 0
        assert "x.json cannot be written: No space left on device" in found.err
        assert list(tmp_path.iterdir()) == []


class TestGitHub:
    def test_the_page_is_added_to_the_summary_of_the_job(self, cli, result, tmp_path, monkeypatch):
        summary = tmp_path / "summary.md"
        summary.write_text("# before\n")
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
        assert cli("report", result).code == 0
        assert summary.read_text() == "# before\n"  # only where it is asked for
        assert cli("report", result, "--format", "github").code == 0
        assert summary.read_text() == f"# before\n{FORMATS.get('markdown').render(failing_report())}\n"

    def test_elsewhere_there_is_no_summary(self, cli, result, monkeypatch):
        monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
        assert cli("report", result, "--format", "github").err == ""

    def test_a_summary_that_cannot_be_written_changes_no_verdict(self, cli, result, tmp_path, monkeypatch):
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
        found = cli("report", result, "--format", "github")
        assert (found.code, found.err) == (0, "note: the summary of the job cannot be written: Is a directory\n")


def test_the_passing_page_is_called_passed(cli, tmp_path):
    place = tmp_path / "result.json"
    place.write_text(FORMATS.get("json").render(passing_report()))
    assert "<h1>Passed</h1>" in cli("report", place, "--format", "html").out
