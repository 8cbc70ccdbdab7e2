"""No crafted file executes anything, whatever it names and wherever it hides it, and none costs more than its size."""

import ast
import json
import pickle
import pickletools
import subprocess
import sys
import time
import tracemalloc
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rnn_export.errors import SourceError
from rnn_export.torch_files import read_torch_file
from rnn_export.unpickling import Global, Made, Persistent, read_pickle
from tests import hostile

ROOT = Path(__file__).parent.parent
REPEATABLE = settings(max_examples=300, deadline=None, derandomize=True, database=None)

# Runs in a child: a real unpickler runs each expression, and says which of them created the canary.
CONTROL = """
import contextlib, copyreg, json, os, pickle, shutil, sys
from pathlib import Path
folder, canary = Path(sys.argv[1]), Path(sys.argv[2])
sys.path.insert(0, str(folder))
copyreg.add_extension("os", "system", int(sys.argv[3]))
fired = []
for path in sorted(folder.glob("*.control")):
    sys.modules.pop("canary_bait", None)
    with contextlib.suppress(BaseException), open(os.devnull, "w") as null, contextlib.redirect_stdout(null):
        made = pickle.loads(path.read_bytes())
        getattr(made, "wait", getattr(made, "read", int))()
    for _ in range(20):
        if os.path.lexists(canary):
            fired.append(path.name)
            shutil.rmtree(canary) if canary.is_dir() and not canary.is_symlink() else canary.unlink()
            break
        if "spawn" not in path.name and "browser" not in path.name:
            break
        __import__("time").sleep(0.05)
print(json.dumps(fired), file=sys.__stdout__)
"""

# Runs in a child: our reader reads each file while the interpreter reports everything that it does.
AUDITED = """
import copyreg, json, sys
from pathlib import Path
from rnn_export.errors import SourceError
from rnn_export.torch_files import read_torch_file
folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))
for warm in sorted(folder.glob("*.honest")):
    read_torch_file(warm)
copyreg.add_extension("os", "system", int(sys.argv[2]))
files = sorted(folder.glob(sys.argv[3]))
if sys.argv[3] != "*.pt":  # to show that the watch below sees what an unpickler does
    import pickle
    read_torch_file = lambda path: pickle.loads(path.read_bytes())
events, outcomes, watching = [], {"refused": 0, "read": 0}, False
HARMLESS = {"builtins.id", "object.__getattr__", "object.__setattr__", "object.__delattr__", "sys._getframe"}
def hook(event, arguments):
    if watching and event not in HARMLESS:
        if event == "open" and arguments[0] in allowed and arguments[1] in ("r", "rb"):
            return
        events.append((event, repr(arguments)[:200]))
allowed = {str(path) for path in files}
sys.addaudithook(hook)
before = set(sys.modules)
for path in files:
    watching = True
    try:
        read_torch_file(path)
        outcome = "read"
    except SourceError:
        outcome = "refused"
    watching = False
    outcomes[outcome] += 1
print(json.dumps({
    "events": events[:20], "outcomes": outcomes, "modules": sorted(set(sys.modules) - before),
    "extensions": list(map(str, copyreg._extension_cache)),
}))
"""


def run(script: str, *arguments: object) -> dict[str, object]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def crafted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of crafted files, and the canary that they would create."""
    folder = tmp_path_factory.mktemp("crafted")
    canary = Path(f"/tmp/{time.time_ns() % 10**6:06d}")  # noqa: S108  (as long as the placeholder in the pickles)
    assert len(str(canary)) == len(hostile.CANARY)
    (folder / f"{hostile.BAIT}.py").write_text(f"open({str(canary)!r}, 'w')\nanything = int\n")
    aim = (hostile.CANARY.encode(), str(canary).encode())
    for place, (title, code) in enumerate(hostile.expressions()):
        file_name = f"{place:04d} {title}".replace("/", "-")
        (folder / f"{file_name}.control").write_bytes(hostile.payload(code.replace(*aim)))
        for position, whole in hostile.placed(code.replace(*aim)):
            kinds = list(hostile.containers(whole))
            for kind, content in kinds if position == "root" else [kinds[1 + place % 6]]:
                (folder / f"{file_name} as {position} in {kind}").write_bytes(content)
    for kind, content in hostile.containers(b"}"):
        if kind in ("zip.pt", "legacy.pt", "tar.pt"):
            (folder / f"{kind}.honest").write_bytes(content)
    return folder, canary


class TestInertness:
    def test_the_crafted_files_are_dangerous_to_a_real_unpickler(self, crafted):
        folder, canary = crafted
        fired = run(CONTROL, folder, canary, hostile.EXTENSION)
        callers = {title.split(" by ")[0][5:].removesuffix(".control") for title in fired}
        assert len(fired) >= 150
        assert {f"{module}.{attribute}" for module, attribute, _ in hostile.CALLS} <= callers
        assert set(hostile.CHAINS) <= callers
        assert not canary.exists()

    def test_no_crafted_file_executes_imports_or_opens_anything(self, crafted):
        folder, canary = crafted
        said = run(AUDITED, folder, hostile.EXTENSION, "*.pt")
        assert sum(said["outcomes"].values()) == len(list(folder.glob("*.pt"))) >= 2000
        assert said["events"] == []
        assert said["modules"] == []
        assert said["extensions"] == []
        assert not canary.exists()
        print(f"{sum(said['outcomes'].values())} crafted files, 0 canaries: {said['outcomes']}")

    def test_the_watch_sees_what_a_real_unpickler_does(self, crafted):
        folder, canary = crafted
        said = run(AUDITED, folder, hostile.EXTENSION, "*[0-9] os.system by REDUCE.control")
        assert {"pickle.find_class", "os.system"} <= {event for event, _ in said["events"]}
        canary.unlink()
        said = run(AUDITED, folder, hostile.EXTENSION, f"*{hostile.BAIT}.anything by REDUCE.control")
        assert {"pickle.find_class", "import", "exec"} <= {event for event, _ in said["events"]}
        assert said["modules"] == [hostile.BAIT]
        canary.unlink()

    def test_the_package_has_no_way_to_unpickle(self):
        forbidden = {"eval", "exec", "torch.load", "torch.jit.load", "torch.export.load", "torch.package"}
        for path in (ROOT / "rnn_export").rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                assert not {"pickle", "_pickle", "marshal", "shelve", "dill", "joblib", "tarfile"} & set(names), path
                if isinstance(node, ast.Call):
                    assert ast.unparse(node.func) not in forbidden, path
                    options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                    assert options.get("weights_only", "True") == "True", path
                    assert options.get("allow_pickle", "False") == "False", path


class TestTree:
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_plain_values_come_back(self, protocol):
        value = {"a": [1, -7, 2**70, 1.5, None, True, "text\nü", (), (1, (2,)), {"b": {}}], "big": list(range(3000))}
        assert read_pickle(BytesIO(pickle.dumps(value, protocol))).root == value

    @given(
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False)
            | st.text()
            | st.binary(max_size=300),
            lambda inner: (
                st.lists(inner)
                | st.tuples(inner, inner)
                | st.dictionaries(st.text(st.characters(categories=["L", "N"])), inner)
            ),
        ),
        st.sampled_from([3, 4, 5]),
    )
    @REPEATABLE
    def test_any_plain_value_comes_back(self, value, protocol):
        assert read_pickle(BytesIO(pickle.dumps(value, protocol))).root == value

    @given(st.binary(max_size=60))
    @REPEATABLE
    def test_arbitrary_bytes_are_read_or_refused(self, data):
        for prefix in (b"", b"\x80\x02", b"\x80\x04(", b"}(", b"]cos\nsystem\n"):
            try:
                read_pickle(BytesIO(prefix + data + b"."))
            except SourceError:
                continue

    @pytest.mark.parametrize("opcode", [opcode.name for opcode in pickletools.opcodes])
    def test_every_opcode_is_handled_or_refused(self, opcode):
        code = next(entry.code for entry in pickletools.opcodes if entry.name == opcode).encode("latin-1")
        for stack in (b"", b"N", b"NN", b"(", b"(NN", b"]", b"}NN", b"cos\nsystem\n)", b"])N"):
            for argument in (b"", b"\0", b"\1\0\0\0\0\0\0\0", b"1\n", b"os\nsystem\n", b"\xff" * 16):
                try:
                    read_pickle(BytesIO(b"\x80\x04" + stack + code + argument + b"."))
                except SourceError:
                    continue

    def test_names_and_calls_become_records(self):
        code = hostile.called(hostile.name("os", "system"), hostile.body("rm")) + hostile.body({"a": 1}) + b"b"
        tree = read_pickle(BytesIO(code + b"."))
        assert isinstance(tree.root, Made)
        assert (tree.root.maker, tree.root.args, tree.root.state) == ("os.system", ("rm",), {"a": 1})
        assert tree.made == [tree.root]
        root = read_pickle(BytesIO(hostile.name("os", "system") + b".")).root
        assert isinstance(root, Global)
        reference = read_pickle(BytesIO(hostile.body(("storage", 1)) + b"Q.")).root
        assert isinstance(reference, Persistent)
        assert reference.id == ("storage", 1)

    def test_what_is_added_to_a_made_object_is_kept_beside_it(self):
        plain = hostile.name("some.where", "Derived") + b")\x81"
        filled = read_pickle(BytesIO(plain + hostile.body("k") + b"K\x01s" + b"K\x02a" + b".")).root
        assert (filled.maker, filled.entries, filled.items) == ("some.where.Derived", {"k": 1}, [2])

    def test_python_2_objects_are_recognised(self):
        code = hostile.called(
            hostile.name("copy_reg", "_reconstructor"),
            hostile.name("m", "Net"),
            hostile.name("__builtin__", "object"),
            b"N",
        )
        assert read_pickle(BytesIO(code + b".")).root.maker == "m.Net"

    def test_names_reach_terminals_without_control_characters(self):
        named = read_pickle(BytesIO(hostile.body({"a\x1b[31m\ud800"[:6]: 1}) + b".")).root
        assert list(named) == ["a\\x1b[31m"]
        half = b"}X\x03\0\0\0\xed\xa0\x80K\x01s."
        assert list(read_pickle(BytesIO(half)).root) == ["\\ud800"]

    def test_a_class_is_never_changed(self):
        code = hostile.name("collections", "OrderedDict") + hostile.body({"canary": 1}) + b"b."
        with pytest.raises(SourceError, match="BUILD would change a Global"):
            read_pickle(BytesIO(code))


def doubled(opener: bytes, times: int) -> bytes:
    """A value that holds the value before it twice, again and again: 2**times leaves in 5*times bytes."""
    return opener + b"".join(b"q\x00" + b"h\x00\x86" for _ in range(times))


def doubled_dicts(times: int) -> bytes:
    step = b"q\x000}" + hostile.body("a") + b"h\x00s" + hostile.body("b") + b"h\x00s"
    return b"}" + step * times


COLLIDING = b"".join(hostile.body(factor * (2**61 - 1)) + b"N" for factor in range(1, 10000))  # all hash to 0
PUTS = b"".join(f"p{factor * (2**61 - 1)}\n".encode() for factor in range(1, 3000))
BOMBS = {
    "memo index": b"N" + b"r\xfe\xff\xff\xff",
    "memo index in words": b"Np99999999999999999999\n",
    "memo indices that collide": b"N" + PUTS,
    "bytes": b"\x8e" + (2**60).to_bytes(8, "little") + b"x",
    "bytearray": b"\x96" + (2**60).to_bytes(8, "little") + b"x",
    "text": b"\x8d" + (2**60).to_bytes(8, "little") + b"x",
    "frame": b"\x95" + (2**60).to_bytes(8, "little") + b"N",
    "integer": b"\x8b" + (2**31 - 1).to_bytes(4, "little") + b"x",
    "integer in words": b"L" + b"9" * 100_000 + b"L\n",
    "tuples that double": doubled(b")", 60),
    "tuples that double, as a key": b"}" + doubled(b")", 60) + b"Ns",
    "tuples that double, as a name": doubled(b")", 60) + b"q\x00h\x00\x93",
    "tuples that double, as a reference": doubled(b")", 60) + b"Q",
    "dicts that double": doubled_dicts(60),
    "lists that double": b"]" + b"q\x000](h\x00h\x00e" * 60,
    "deep tuples": b")" + b"\x85" * 20_000,
    "deep lists": b"]" * 20_000 + b"a" * 19_999,
    "deep dicts": (b"}" + hostile.body("a")) * 20_000 + b"}" + b"s" * 20_000,
    "deep calls": b"N" + b")R" * 20_000,
    "a dict inside itself": b"}q\x00" + hostile.body("a") + b"h\x00s",
    "a list inside itself": b"]q\x00h\x00a",
    "a parameter of itself": hostile.name("torch.nn.parameter", "Parameter") + b")\x81q\x00h\x00\x85b",
    "keys that collide": b"}(" + COLLIDING + b"u",
    "long names": b"}" + b"X" + (10**5).to_bytes(4, "little") + b"n" * 10**5 + doubled_dicts(40) + b"s",
}


class TestBounds:
    @pytest.mark.parametrize("title", BOMBS)
    def test_no_pickle_costs_more_than_its_size(self, title, tmp_path):
        for kind, content in hostile.containers(BOMBS[title]):
            path = tmp_path / kind
            path.write_bytes(content)
            tracemalloc.start()
            start = time.process_time()
            try:
                read_torch_file(path)
            except SourceError as error:
                assert len(str(error)) < 1000  # noqa: PT017
            seconds, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 2**20 + 400 * len(content), kind
            assert seconds < 2 + len(content) / 50_000, kind  # tracing makes it ten times as slow as it is
