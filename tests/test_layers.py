"""Imports run one way, what is light stays light, and what belongs to one place is in that place."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rnn_export

ROOT = Path(rnn_export.__file__).parent
DATA = ROOT / "data"  # what is shipped to servers and runs there, beside packages of theirs
MODULES = sorted(path for path in ROOT.rglob("*.py") if DATA not in path.parents)
# Each line may import the lines above it. A folder counts as one: within it, files import as they like.
LAYERS = [
    {"errors", "element_types", "documents", "record", "machine"},
    {"spec", "registry", "recurrence", "blocks", "memo", "result", "text_file", "toml_tables"}
    | {"manifest", "model_config", "onnxruntime_releases"},
    {"summary", "weights", "spectrum", "runtimes", "archives", "unpickling", "recurrent_parts", "sequences"}
    | {"differences", "rules", "quantised_state"},
    {"oracle", "rounding", "module", "numpy_files", "safetensors_files", "torch_storages", "findings"},
    {"appeal", "worker", "torch_tensors", "cases", "conversion", "server_address"},
    {"residual", "child", "torch_tree"},
    {"precision", "canary", "torch_files"},
    {"contents"},
    {"folder", "checkpoint", "forms", "environments", "signing"},
    {"artifact", "inspection", "judgement", "execution", "description", "inventory", "verification_file", "serving"}
    | {"cost_model"},
    {"calibration", "axes", "installation", "integrity", "golden", "targets"},
    {"bundle", "model_description"},
    {"subject", "card"},
    {"session", "drift"},
    {"table", "verification"},
    {"report", "cells"},
    {"reports", "processes", "cluster", "repository", "live_server", "shipping"},
    {"pipeline", "whole_model", "known_failures", "pushing", "servable"},
    {"demonstration", "diagnosis", "choice", "reproduction", "configuration", "server", "benchmark"},
    {"checks"},
    {"check_table"},
    {"cli"},
    {"__main__"},
]
FOLDERS = (
    "forms",
    "runtimes",
    "reports",
    "cli",
    "conversion",
    "whole_model",
    "targets",
    "rules",
    "repository",
    "live_server",
    "benchmark",
)
HEIGHT = {name: height for height, layer in enumerate(LAYERS) for name in layer}


def part_of(file: Path) -> str:
    """The module or folder of the package that a file belongs to; empty for the package itself."""
    first = file.relative_to(ROOT).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imported(file: Path, *, everywhere: bool) -> Iterator[str]:
    """Dotted names that a file imports: at module level, or also inside functions; for type checkers never."""
    waiting: list[ast.AST] = list(ast.parse(file.read_text()).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name} has a relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif everywhere or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            waiting += ast.iter_child_nodes(node)


def own_parts(file: Path, *, everywhere: bool) -> set[str]:
    names = [name.split(".") for name in imported(file, everywhere=everywhere)]
    return {name[1] for name in names if name[0] == "rnn_export" and len(name) > 1}


def loaded_by(statement: str) -> set[str]:
    """The top-level modules in memory after a statement, in a process of its own."""
    script = f"{statement}\nimport sys, json\nprint(json.dumps(sorted({{n.split('.')[0] for n in sys.modules}})))"
    line = [sys.executable, "-c", script]
    return set(json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout))


def test_every_part_of_the_package_has_its_place_in_the_table():
    assert {part_of(file) for file in MODULES} - {""} == set(HEIGHT)


@pytest.mark.parametrize("file", MODULES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_imports_run_one_way(file):
    """Also those inside functions: they are there for speed, and not to turn back."""
    own = part_of(file)
    for part in own_parts(file, everywhere=True) - {own}:
        if own:
            assert HEIGHT[part] < HEIGHT[own], f"{file.name} imports {part}, which stands above or beside it"
        else:
            pytest.fail(f"the package itself imports {part} before it is asked for")


def test_the_files_of_a_folder_import_each_other_in_no_circle():
    for folder in FOLDERS:
        edges = {
            file.stem: {
                name.split(".")[2]
                for name in imported(file, everywhere=False)
                if name.startswith(f"rnn_export.{folder}.") and (ROOT / folder / f"{name.split('.')[2]}.py").exists()
            }
            for file in (ROOT / folder).glob("*.py")
        }
        while done := [name for name, needs in edges.items() if not needs & set(edges)]:
            for name in done:
                del edges[name]
        assert not edges


@pytest.mark.parametrize(
    "file",
    [ROOT / "worker.py", *sorted((ROOT / "runtimes").glob("*.py"))],
    ids=lambda file: file.name,
)
def test_what_the_child_loads_needs_the_standard_library_and_numpy_only(file):
    allowed = {"rnn_export.runtimes", "rnn_export.registry", "rnn_export.errors"}
    for name in imported(file, everywhere=False):
        ours = any(f"{name}.".startswith(f"{part}.") for part in allowed)
        assert ours or name.split(".")[0] in sys.stdlib_module_names | {"numpy"}, f"{file.name} imports {name}"


def test_click_is_in_the_command_line_only():
    users = {part_of(file) for file in MODULES for name in imported(file, everywhere=True) if name.startswith("click")}
    assert users == {"cli"}


def test_torch_is_not_imported_at_module_level_but_where_modules_are_made_or_exported():
    imports = [(part_of(file), name) for file in MODULES for name in imported(file, everywhere=False)]
    users = {part for part, name in imports if name.startswith("torch")}
    assert users == {"module", "recurrence", "conversion", "whole_model"}


def test_no_module_is_named_after_nothing():
    empty = {"util", "utils", "helper", "helpers", "misc", "common", "base", "tools"}
    assert not {file.stem.strip("_") for file in MODULES} & empty
    assert not {file.parent.name for file in MODULES} & empty


def test_importing_the_package_loads_nothing_heavy():
    assert not loaded_by("import rnn_export") & {"torch", "onnx", "numpy", "onnxruntime", "click", "rich"}


def test_the_command_line_loads_nothing_heavy_before_it_knows_the_command():
    assert not loaded_by("import rnn_export.cli") & {"torch", "onnx", "numpy", "onnxruntime", "rich"}


@pytest.mark.parametrize("name", ["RNNSpec", "RnnExportError", "verify", "export"])
def test_a_light_name_loads_no_torch(name):
    assert "torch" not in loaded_by(f"from rnn_export import {name}")


def test_every_public_name_is_there_and_is_listed():
    assert sorted(rnn_export.__all__) == sorted(set(rnn_export.__all__))
    for name in rnn_export.__all__:
        assert getattr(rnn_export, name) is not None
    assert dir(rnn_export) == sorted(rnn_export.__all__)


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = rnn_export.Nothing
