"""The house rules that no linter holds: sizes that people can read, and names that are said once."""

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = sorted((ROOT / "viscera").rglob("*.py"))
MOST_LINES, MOST_TEST_LINES, MOST_OF_A_FUNCTION, MOST_POSITIONAL = 350, 400, 60, 6
FORMER_ADDRESSES = {"dicom_seg.py", "rtstruct.py"}  # viscera/io/ keeps where scripts from outside look for them


def lines_of(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")


def test_no_file_is_too_long_to_be_read() -> None:
    long = {str(path.relative_to(ROOT)): lines_of(path) for path in PACKAGE if lines_of(path) > MOST_LINES}
    assert not long


def test_no_test_file_is_too_long_to_be_read() -> None:
    tests = (ROOT / "tests").rglob("*.py")
    long = {str(path.relative_to(ROOT)): n for path in tests if (n := lines_of(path)) > MOST_TEST_LINES}
    assert not long


def test_no_function_is_too_long_to_be_read() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.name}": size
        for path in PACKAGE
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (size := (node.end_lineno or node.lineno) - node.lineno + 1) > MOST_OF_A_FUNCTION
    }
    assert not long


def test_torch_distributed_has_one_door() -> None:
    doors = {path.name for path in PACKAGE if "torch.distributed" in path.read_text(encoding="utf-8")}
    assert doors == {"distributed.py"}


def test_every_files_name_is_said_once() -> None:
    counts = Counter(path.name for path in PACKAGE if not path.name.startswith("__"))
    assert {name for name, count in counts.items() if count > 1} <= FORMER_ADDRESSES


def test_no_function_takes_more_than_six_arguments_by_position() -> None:
    many = {
        f"{path.relative_to(ROOT)}:{node.name}"
        for path in PACKAGE
        if not path.name.endswith("_commands.py")
        and path.name != "fused_dice_sums.py"  # commands take artifacts and options, kernels take sizes
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and len([a for a in (*node.args.posonlyargs, *node.args.args) if a.arg not in {"self", "cls"}])
        > MOST_POSITIONAL
    }
    assert not many
