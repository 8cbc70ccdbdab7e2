"""The messages between parent and child, and that no child outlives its use, however it or its parent ends."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rnn_export import worker
from rnn_export.canary import FOLDER as CANARY
from rnn_export.canary import sing
from rnn_export.child import Child, Failure
from rnn_export.element_types import BFLOAT16, BITS
from rnn_export.result import Stage, Status
from rnn_export.runtimes import Runtime
from tests.subjects import PATIENCE, descendants, ends_within, fake, is_running

PYTHON = Path(sys.executable)
SMALL = {"input": np.array([[1, 2], [3, 4]], np.float32)}
ARRAYS = hnp.arrays(
    st.sampled_from([np.float32, np.float64, np.float16, np.int64, np.bool_]),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)


def message(header: object, blobs: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "big") + text + blobs


@pytest.fixture
def honest() -> Iterator[Child]:
    with Child(fake("answers", ANSWER="honest"), PYTHON, PATIENCE) as child:
        child.wait_until_ready()
        yield child


class TestMessages:
    @given(
        st.dictionaries(st.text(max_size=8), ARRAYS, max_size=3), st.dictionaries(st.text(max_size=8), st.integers())
    )
    def test_what_is_sent_is_received_bit_for_bit(self, arrays, header):
        header.pop("arrays", None)
        stream = io.BytesIO()
        worker.send(stream, header, arrays)
        stream.seek(0)
        found_header, found = worker.receive(stream)
        assert found_header == header
        assert list(found) == list(arrays)
        for name, array in arrays.items():
            assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
            assert found[name].tobytes() == array.tobytes()
        assert stream.read() == b""

    def test_bfloat16_goes_as_its_bits(self):
        stream, array = io.BytesIO(), np.array([[1.5, -0.0, 3e38]], BFLOAT16)
        worker.send(stream, {}, {"x": array})
        stream.seek(0)
        found = worker.receive(stream)[1]["x"]
        assert (found.dtype, found.shape, found.tobytes()) == (BITS, array.shape, array.tobytes())

    @given(st.data())
    def test_a_message_that_stops_anywhere_is_the_end_of_the_other_side(self, data):
        stream = io.BytesIO()
        worker.send(stream, {"do": "run", "network": 0}, SMALL)
        whole = stream.getvalue()
        with pytest.raises(EOFError):
            worker.receive(io.BytesIO(whole[: data.draw(st.integers(0, len(whole) - 1))]))

    @pytest.mark.parametrize("change", [-1, 1])
    def test_an_array_of_another_size_than_announced_is_no_message(self, change):
        stream = io.BytesIO()
        np.save(stream, SMALL["input"])
        blob = stream.getvalue() + bytes(100)
        size = len(blob) - 100 + change
        with pytest.raises(ValueError, match=r"behind an array|EOF"):
            worker.receive(io.BytesIO(message({"arrays": {"y": size}}, blob[:size])))

    def test_an_array_is_sent_from_where_it_lies_and_received_where_it_stays(self):
        """Of a million steps there is room for one copy on either side."""
        array = np.ones((2**21, 4), np.float32)  # 32 MiB
        with tempfile.TemporaryFile() as stream:
            tracemalloc.start()
            worker.send(stream, {}, {"y": array})
            sending = tracemalloc.get_traced_memory()[1]
            stream.seek(0)
            tracemalloc.reset_peak()
            _, found = worker.receive(stream)
            receiving = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert np.array_equal(found["y"], array)
        assert sending < 2**20
        assert receiving < array.nbytes + 2**22

    @given(st.binary(max_size=200))
    def test_noise_is_never_a_message(self, noise):
        with pytest.raises((EOFError, ValueError, KeyError)):
            worker.receive(io.BytesIO(noise))

    @pytest.mark.parametrize(
        "header",
        [
            {"status": "PASS"},
            {"arrays": {"y": 3}},
            [],
            None,
            {"arrays": 5},
            {"arrays": {"y": "x"}},
        ],
        ids=json.dumps,
    )
    def test_json_that_is_no_header_is_refused_as_such(self, header):
        with pytest.raises((ValueError, KeyError)):
            worker.receive(io.BytesIO(message(header, b"no array")))

    def test_a_header_that_is_too_long_is_not_even_read(self):
        stream = io.BytesIO((worker.HEADER_LIMIT + 1).to_bytes(8, "big") + b"{" * 100)
        with pytest.raises(ValueError, match="a header of"):
            worker.receive(stream)
        assert stream.tell() == 8

    def test_an_array_of_objects_is_not_sent(self):
        with pytest.raises(ValueError, match="allow_pickle"):
            worker.send(io.BytesIO(), {}, {"y": np.array([{}], object)})

    @pytest.mark.parametrize("text", ["(" * 200, "{", "{'descr': 1", "\x00", "import os"])
    def test_a_head_that_is_no_head_is_no_message(self, text):
        blob = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()
        with pytest.raises(ValueError, match="cannot be read"):
            worker.receive(io.BytesIO(message({"arrays": {"y": len(blob)}}, blob)))

    def test_a_pickle_is_not_read(self, tmp_path):
        class Trap:
            def __reduce__(self):
                return Path.touch, (tmp_path / "sprung",)

        buffer = io.BytesIO()
        np.save(buffer, np.array([Trap()], object), allow_pickle=True)
        blob = buffer.getvalue()
        with pytest.raises(ValueError, match="allow_pickle"):
            worker.receive(io.BytesIO(message({"arrays": {"y": len(blob)}}, blob)))
        assert not (tmp_path / "sprung").exists()


class TestWhatTheAdapterSees:
    """The adapter answers what it sees of its own process, as arrays."""

    @pytest.fixture
    def look(self, tmp_path):
        def look(expression: str, **options) -> np.ndarray:
            file = tmp_path / "looks.py"
            file.write_text(
                "import os, sys, resource, importlib.util, numpy as np\n"
                "def prepare(folder):\n"
                f"    return lambda inputs: {{'seen': np.asarray({expression})}}\n"
            )
            namespace: dict = {}
            exec(compile(file.read_text(), str(file), "exec"), namespace)  # noqa: S102
            runtime = Runtime("looks", "", ("numpy",), namespace["prepare"], **options.pop("runtime", {}))
            with Child(runtime, PYTHON, PATIENCE, **options) as child:
                child.wait_until_ready()
                child.prepare(CANARY)
                return child.run(0, {})["seen"]

        return look

    def test_its_address_space_is_limited(self, look):
        assert look("resource.getrlimit(resource.RLIMIT_AS)", memory_limit=3 * 2**30).tolist() == [3 * 2**30] * 2

    def test_its_address_space_is_not_limited_where_the_runtime_says_so(self, look):
        options = {"limit_address_space": False}
        assert look("resource.getrlimit(resource.RLIMIT_AS)", runtime=options).tolist() == [resource_limit()] * 2

    def test_it_has_the_runtimes_variables_and_one_thread(self, look):
        options = {"environ": {"NVIDIA_TF32_OVERRIDE": "0"}}
        seen = look("[os.environ[n] for n in ('NVIDIA_TF32_OVERRIDE', 'OMP_NUM_THREADS')]", runtime=options)
        assert seen.tolist() == ["0", "1"]

    def test_it_has_as_many_threads_as_its_parent_says(self, look):
        names = "('RNN_EXPORT_THREADS', 'OMP_NUM_THREADS', 'MKL_NUM_THREADS', 'OPENBLAS_NUM_THREADS')"
        assert look(f"[os.environ[n] for n in {names}]", threads=3).tolist() == ["3"] * 4

    def test_its_stdin_is_empty_and_not_the_parents_pipe(self, look):
        assert look("len(sys.stdin.read())") == 0

    def test_modules_of_this_package_are_not_top_level_modules_there(self, look):
        assert not look("any(importlib.util.find_spec(n) for n in ('result', 'oracle', 'spec', 'artifact'))")

    def test_an_environment_of_its_own_is_not_mixed_with_the_parents(self, look, monkeypatch, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "only_there.py").touch()
        monkeypatch.setenv("PYTHONPATH", str(tmp_path / "elsewhere"))
        options = {"own_environment": True}
        assert not look("importlib.util.find_spec('only_there') is not None", runtime=options)

    def test_it_leads_a_process_group_of_its_own(self, look):
        assert look("os.getpgrp() == os.getpid() == os.getsid(0)")

    def test_it_is_the_interpreter_that_was_asked_for(self, look):
        assert look("sys.executable").item() == sys.executable


def resource_limit() -> int:
    import resource

    return resource.getrlimit(resource.RLIMIT_AS)[0]


class TestAnswers:
    def test_the_canary_is_computed_and_the_version_is_told(self, honest):
        sing(honest, "model.onnx")
        assert re.fullmatch(r"\d+\.\d+.*", honest.version)

    def test_networks_are_numbered_in_the_order_of_preparation(self, honest):
        honest.prepare(CANARY)
        honest.prepare(CANARY)
        for network in (0, 1):
            assert honest.run(network, SMALL)["output"].tolist() == [[7, 10], [15, 22]]
        with pytest.raises(Failure, match="IndexError") as caught:
            honest.run(2, SMALL)
        assert (caught.value.stage, caught.value.status) == (Stage.RUN, Status.REFUSED)

    def test_a_refusal_is_one_line_and_the_child_goes_on(self, honest):
        honest.prepare(CANARY)
        with pytest.raises(Failure) as caught:
            honest.run(0, {"another name": SMALL["input"]})
        assert caught.value.status is Status.REFUSED
        assert "\n" not in caught.value.detail
        assert honest.run(0, SMALL)["output"].shape == (2, 2)

    def test_a_folder_without_a_model_is_refused_at_preparation(self, honest, tmp_path):
        with pytest.raises(Failure) as caught:
            honest.prepare(tmp_path)
        assert (caught.value.stage, caught.value.status) == (Stage.PREPARE, Status.REFUSED)

    def test_large_arrays_travel_both_ways(self, honest):
        honest.prepare(CANARY)
        wide = np.ones((2, 2_000_000), np.float32)
        with pytest.raises(Failure) as caught:  # ONNX Runtime says what it got: the message arrived whole
            honest.run(0, {"input": wide})
        assert "2000000" in caught.value.detail

    def test_noise_cannot_reach_the_messages_nor_the_parents_own_output(self, capfd):
        with Child(fake("noise", NOISE="1"), PYTHON, PATIENCE) as child:
            child.wait_until_ready()
            child.prepare(CANARY)
            for _ in range(3):
                assert child.run(0, SMALL)["output"].tolist() == [[7, 10], [15, 22]]
        assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "answer",
    [
        '{"status": "PASS", "arrays": {}}',
        '{"status": "PASS", "seconds": "long", "arrays": {}}',
        '{"status": "PASS", "seconds": [], "arrays": {}}',
        '{"status": "ODD", "arrays": {}}',
        '{"arrays": {}}',
    ],
)
def test_an_answer_without_what_belongs_in_it_is_a_crash_and_no_accident(answer):
    with Child(fake("odd", ODD=answer), PYTHON, PATIENCE) as child:
        child.wait_until_ready()
        with pytest.raises(Failure, match="answered out of protocol") as caught:
            child.prepare(CANARY)
    assert (caught.value.stage, caught.value.status) == (Stage.PREPARE, Status.CRASHED)


class TestTiming:
    @pytest.fixture
    def timing(self, tmp_path):
        """A child whose adapter takes 20 ms to prepare, 30 ms for a run and nothing for ``lean``."""
        file = tmp_path / "slow.py"
        file.write_text(
            "import time\n"
            "class Run:\n"
            "    def __call__(self, inputs):\n"
            "        time.sleep(0.03)\n"
            "        return dict(inputs)\n"
            "def prepare(folder):\n"
            "    time.sleep(0.02)\n"
            "    run = Run()\n"
            "    if folder.name == 'lean':\n"
            "        run.lean = lambda inputs: inputs['input']\n"
            "    return run\n"
        )
        namespace: dict = {}
        exec(compile(file.read_text(), str(file), "exec"), namespace)  # noqa: S102
        with Child(Runtime("slow", "", ("numpy",), namespace["prepare"]), PYTHON, PATIENCE) as child:
            child.wait_until_ready()
            yield child

    def test_the_seconds_of_each_run_are_told_and_at_least_three_runs(self, timing, tmp_path):
        timing.prepare(tmp_path)
        timed = timing.time(0, SMALL, 0.001)
        assert len(timed.seconds) == 3
        assert all(0.03 <= seconds < PATIENCE for seconds in timed.seconds)

    def test_it_runs_for_as_long_as_it_is_told(self, timing, tmp_path):
        timing.prepare(tmp_path)
        assert sum(timing.time(0, SMALL, 0.3).seconds) > 0.25

    def test_what_is_lean_is_timed_in_place_of_the_run(self, timing, tmp_path):
        timing.prepare(tmp_path / "lean")
        assert min(timing.time(0, SMALL, 0.001).seconds) < 0.03

    def test_what_lean_raises_is_a_refusal(self, timing, tmp_path):
        timing.prepare(tmp_path / "lean")
        with pytest.raises(Failure, match="KeyError: 'input'") as caught:
            timing.time(0, {}, 0.001)
        assert (caught.value.stage, caught.value.status) == (Stage.RUN, Status.REFUSED)

    def test_preparing_says_how_long_it_took(self, timing, tmp_path):
        assert 0.02 <= timing.prepare(tmp_path) < PATIENCE

    def test_the_peak_of_memory_is_the_childs_own_and_never_falls(self, timing, tmp_path):
        timing.prepare(tmp_path)
        ballast = np.ones(2**26, np.uint8)  # of this process, which the child must not count
        before = timing.time(0, SMALL, 0.001).peak_bytes
        held = timing.time(0, {"input": ballast}, 0.001).peak_bytes
        assert before < ballast.nbytes <= held
        assert timing.time(0, SMALL, 0.001).peak_bytes == held

    def test_the_time_limit_begins_when_the_seconds_are_over(self, tmp_path):
        with Child(fake("answers", ANSWER="honest"), PYTHON, PATIENCE) as child:
            child.wait_until_ready()
            child.prepare(CANARY)
            child._timeout = 0.5
            assert sum(child.time(0, SMALL, 1.0).seconds) > 0.5


def test_a_python_that_cannot_be_started_is_broken_and_leaves_nothing_open(tmp_path):
    (tmp_path / "python").write_text("no program")
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(Failure, match="its Python cannot be started: Permission denied") as caught:
        Child(fake("answers", ANSWER="honest"), tmp_path / "python", PATIENCE)
    assert (caught.value.stage, caught.value.status) == (Stage.FIND, Status.BROKEN)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


class TestTheEnd:
    def test_closing_ends_the_process_and_can_be_repeated(self):
        child = Child(fake("answers", ANSWER="honest"), PYTHON, PATIENCE)
        pid = child._process.pid
        assert child.alive
        child.close()
        child.close()
        assert not child.alive
        assert not is_running(pid)

    def test_a_hanging_child_ends_at_the_limit(self):
        with Child(fake("deaths", DEATH="hang", STAGE="PREPARE"), PYTHON, 3.0) as child:
            child.wait_until_ready()
            started = time.monotonic()
            with pytest.raises(Failure, match="no answer within 3 s") as caught:
                child.prepare(CANARY.parent)  # any folder but the canary's is deadly
            assert 3.0 <= time.monotonic() - started < 3.0 + 2.0
            assert (caught.value.stage, caught.value.status) == (Stage.PREPARE, Status.TIMEOUT)
            assert not child.alive

    @pytest.mark.parametrize("death", ["start and go on", "start and hang"])
    def test_what_the_child_started_ends_with_it(self, death, tmp_path):
        started = start_witness(death, tmp_path, timeout=3.0)
        assert ends_within(started, 5)

    def test_what_a_crashed_child_started_ends_too(self, tmp_path):
        started = start_witness("start and crash", tmp_path, timeout=PATIENCE)
        try:
            assert ends_within(started, 3)
        finally:
            if is_running(started):
                os.kill(started, signal.SIGKILL)

    def test_the_child_dies_when_its_parent_is_killed(self, tmp_path):
        """Busy in a request: it reads no pipe whose end could tell it."""
        busy = tmp_path / "busy"
        script = (
            "import sys; from pathlib import Path\n"
            "import numpy as np\n"
            "from rnn_export.child import Child\n"
            "from rnn_export.canary import FOLDER\n"
            "from tests.subjects import fake\n"
            f"child = Child(fake('broken', BROKEN='no answer', WITNESS={str(busy)!r}), Path(sys.executable), 600)\n"
            "child.wait_until_ready(); child.prepare(FOLDER)\n"
            "print(child._process.pid, flush=True)\n"
            "child.run(0, {'input': np.ones((2, 2), np.float32)})\n"
        )
        root = Path(__file__).parent.parent
        with subprocess.Popen([sys.executable, "-c", script], cwd=root, stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            while not busy.exists():
                time.sleep(0.01)
            assert is_running(pid)
            parent.kill()
            parent.wait()
            try:
                assert ends_within(pid, 5)
            finally:
                if is_running(pid):
                    os.kill(pid, signal.SIGKILL)

    def test_what_it_left_in_the_temporary_folder_goes(self, tmp_path, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        with Child(fake("noise"), PYTHON, PATIENCE) as child:
            child.wait_until_ready()
            child.prepare(CANARY)
            (scratch,) = tmp_path.iterdir()
            assert list(scratch.iterdir())
        assert list(tmp_path.iterdir()) == []

    def test_nothing_is_left_running(self):
        before = descendants()
        for death in ("SIGSEGV", "exit", "hang"):
            with Child(fake("deaths", DEATH=death, STAGE="FIND"), PYTHON, 1.0) as child, pytest.raises(Failure):
                child.wait_until_ready()
        assert descendants() <= before


def start_witness(death: str, folder: Path, timeout: float) -> int:
    """The pid of what an adapter started before its child came to that end."""
    from tests.subjects import drawn_subject, only, rows_of

    witness = folder / "pid"
    subject = only(drawn_subject("rnn:3,4", folder), "T=1 B=1")
    rows_of(subject, fake("deaths", DEATH=death, STAGE="RUN", WITNESS=str(witness)), timeout)
    return int(witness.read_text())
