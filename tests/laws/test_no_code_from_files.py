"""No pickle, no eval, no network, as the source says: every import and call of viscera is looked at.

What is allowed is listed, each with its place and what it is for.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import viscera

ROOT = Path(viscera.__file__).parent


def words(text: str) -> set[str]:
    return set(text.split())


# ways to make objects of bytes
OF_OBJECTS = words("pickle cPickle _pickle dill cloudpickle joblib marshal shelve jsonpickle copyreg")
# and to reach other machines
OF_NETWORKS = words(
    """
    socket ssl asyncio http urllib urllib3 requests httpx aiohttp ftplib smtplib telnetlib poplib
    imaplib xmlrpc socketserver paramiko websockets webbrowser boto3 fsspec s3fs botocore ray mlflow
    huggingface_hub starlette uvicorn nntplib
    """
)
ALLOWED = {
    ("io/remote/remote_folder.py", "fsspec"): "URLs that the user gives",
    ("engine/on_ray.py", "ray"): "the cluster that the user names",
    ("engine/on_ray.py", "socket"): "whether that answers; the name of this machine",
    ("engine/distributed.py", "socket"): "the name of this machine",
    ("io/disk/lease.py", "socket"): "the name of this machine",
    ("io/watched_cases.py", "socket"): "the name of this machine",
    ("study/ray_desk.py", "socket"): "the name of this machine",
    ("study/ray_launcher.py", "socket"): "the name of this machine",
    ("view/view_server.py", "socket"): "to listen on 127.0.0.1",
    ("view/view_server.py", "uvicorn"): "the viewer's server, on 127.0.0.1",
    ("view/view_server.py", "webbrowser"): "to show its page",
    ("view/view_server.py", "asyncio"): "the type of a connection to it",
    ("view/view_app.py", "asyncio"): "how long it waits for what it is sent",
    ("view/view_app.py", "starlette"): "what it answers",
    ("view/view_guard.py", "starlette"): "whom it answers",
}
BY_NAME = {  # modules that are loaded by a name that is no literal there
    "__init__.py": "viscera's own, from a table",
    "core/machine_limits.py": "one of the operating system, by literals in the same file",
    "engine/trackers.py": "a tracker, from a table",
    "export/exported_model.py": "a library of the extra `export`, from the table of forms",
    "io/nifti_header.py": "one of two packages of Zstandard, by literals in the same file",
}
CALLS = words(
    """
    eval exec compile execfile system popen execv spawnl read_pickle run_path mktemp load full_load
    unsafe_load load_all import_module find_spec __import__ Popen Environment
    """
)
WORDS = "|".join([*OF_OBJECTS, *OF_NETWORKS, *(rf"{name}\(" for name in CALLS), "SafeLoader", "allow_pickle", "shell"])
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in ROOT.rglob("*.py")}
NODES = {  # of the files that have one of these words at all
    file: [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom | ast.Call)]
    for file, text in TEXTS.items()
    if re.search(rf"\b(?:{WORDS})", text)
}


def imports() -> Iterator[tuple[str, str]]:
    for file, nodes in NODES.items():
        for node in nodes:
            if isinstance(node, ast.Import):
                yield from ((file, each.name) for each in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield from ((file, f"{node.module}.{each.name}") for each in node.names if not node.level)
            elif isinstance(node, ast.Call) and name_of(node.func).endswith(
                ("import_module", "find_spec", "__import__")
            ):
                yield from (
                    (file, a.value) for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)
                )


def name_of(function: ast.expr) -> str:
    """`yaml.load` of `yaml.load(...)`."""
    if isinstance(function, ast.Attribute):
        return f"{name_of(function.value)}.{function.attr}"
    return function.id if isinstance(function, ast.Name) else "?"


def calls() -> Iterator[tuple[str, str, ast.Call]]:
    return ((file, name_of(n.func), n) for file, nodes in NODES.items() for n in nodes if isinstance(n, ast.Call))


def keyword(call: ast.Call, name: str) -> object:
    found = next((each.value for each in call.keywords if each.arg == name), None)
    return found.value if isinstance(found, ast.Constant) else found


def test_nothing_that_makes_objects_of_bytes_is_imported() -> None:
    assert {(file, name) for file, name in imports() if name.split(".")[0] in OF_OBJECTS} == set()


def test_what_reaches_other_machines_has_the_doors_that_are_listed() -> None:
    found = {(file, name.split(".")[0]) for file, name in imports() if name.split(".")[0] in OF_NETWORKS}
    assert found == set(ALLOWED)
    assert all(name.startswith("urllib.parse") for _, name in imports() if name.startswith("urllib"))


def test_sockets_are_for_names_a_question_and_the_loopback() -> None:
    used = {(file, name) for file, name, _ in calls() if name.startswith("socket.") and name != "socket.gethostname"}
    assert used == {("engine/on_ray.py", "socket.create_connection"), ("view/view_server.py", "socket.socket")}


def test_no_text_is_run() -> None:
    run = {"eval", "exec", "compile", "execfile", "os.system", "os.popen", "os.execv", "os.spawnl", "__import__"}
    run |= {"torch.jit.load", "torch.hub.load", "pd.eval", "pd.read_pickle", "runpy.run_path", "tempfile.mktemp"}
    again = {("cli/app.py", "os.execv")}  # the same command, in another mode of Python
    assert {(file, name) for file, name, _ in calls() if name in run} == again


def is_unsafe(name: str, call: ast.Call) -> bool:
    words = {key: keyword(call, key) for key in ("weights_only", "allow_pickle", "shell", "autoescape")}
    return (
        (name == "torch.load" and words["weights_only"] is not True)
        or (name in {"np.load", "numpy.load"} and words["allow_pickle"] is not False)
        or words["allow_pickle"] not in {None, False}
        or words["shell"] not in {None, False}
        or (name.endswith(".Environment") and words["autoescape"] is not True)
        or (name.startswith("yaml.") and name.endswith(("load", "load_all")))
        or (
            name.startswith("subprocess.")
            and bool(call.args)
            and isinstance(call.args[0], ast.Constant | ast.JoinedStr)
        )
    )


def test_every_reader_is_the_safe_one() -> None:
    assert [(file, name) for file, name, call in calls() if is_unsafe(name, call)] == []
    assert {file for file, name in imports() if "SafeLoader" in name} == {"core/plain_yaml.py"}
    assert {file for file, name, _ in calls() if name in {"torch.load", "np.load"}} == {
        "io/checkpoint.py",
        "io/store.py",
    }


def test_modules_are_loaded_by_names_that_stand_in_the_source() -> None:
    loads = [(file, call) for file, name, call in calls() if name.endswith("import_module")]
    assert {file for file, call in loads if not isinstance(call.args[0], ast.Constant)} == set(BY_NAME)
