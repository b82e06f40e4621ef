"""No pickle is ever opened and no text run as code: not in our source, in a checkpoint's files, or between ranks."""

from __future__ import annotations

import ast
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hanok.core.artifact import ArtifactError, file_sha256
from hanok.train.checkpoint.manifest import MANIFEST, manifest
from hanok.train.state import resume, save_checkpoint

from .states import small

SOURCE = Path(__file__).parents[3] / "src" / "hanok"
MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "pickletools"}
RUNS = {"eval", "exec"}
# Names that read (or write, for somebody to read) pickles, whatever they are imported from or called on.
CALLS = {
    "torch": {"load", "save", "hub.load", "hub.load_state_dict_from_url", "jit.load", "package", "serialization"},
    "numpy": {"lib.format", "fromregex"},
    "pandas": {"read_pickle", "to_pickle"},
    "distributed": {
        *("all_gather_object", "gather_object", "scatter_object_list", "broadcast_object_list"),
        *("send_object_list", "recv_object_list", "rpc", "FileSystemReader", "FileSystemWriter", "async_save"),
    },
    "checkpoint": {"FileSystemReader", "FileSystemWriter", "load", "save", "async_save"},
}
ENDS = {end.split(".")[-1] for ends in CALLS.values() for end in ends}


def pickles(text: str) -> list[str]:
    """Return what in a module could open a pickle or run text as code: imports under any name, calls, keywords."""
    tree = ast.parse(text)
    names: dict[str, str] = {}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
                found += [alias.name] if alias.name.split(".")[0] in MODULES else []
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found += [module] if module.split(".")[0] in MODULES else []
            for alias in node.names:
                names[alias.asname or alias.name] = f"{module}.{alias.name}"
    for node in ast.walk(tree):
        last = getattr(node, "attr", getattr(node, "id", None))
        if isinstance(node, ast.Name | ast.Attribute) and (last in ENDS or last in names):
            parts = ast.unparse(node).split(".")
            whole = ".".join([names.get(parts[0], parts[0]), *parts[1:]]).replace("np.", "numpy.")
            found += [whole for home, ends in CALLS.items() for end in ends if _is(whole, home, end)]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RUNS:
            found.append(node.func.id)
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle" and ast.unparse(node.value) != "False":
            found.append("allow_pickle")
        if isinstance(node, ast.keyword) and node.arg == "weights_only":
            found.append("weights_only")
        if isinstance(node, ast.Constant) and node.value == "__reduce__":
            found.append("__reduce__")
    return found


def _is(whole: str, home: str, end: str) -> bool:
    parts, tail = whole.split("."), end.split(".")
    if parts[0] == "safetensors":
        return False
    return parts[-len(tail) :] == tail and home in parts[: -len(tail)]


def test_nothing_in_the_source_opens_a_pickle() -> None:
    found = {str(path): pickles(path.read_text(encoding="utf-8")) for path in sorted(SOURCE.rglob("*.py"))}
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "def f():\n from pickle import loads as l",
        "import torch\ntorch.load('x')",
        "from torch import load as l\nl('x')",
        "import torch as t\nt.load('x', map_location='cpu')",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import numpy as np\nnp.load('x', allow_pickle=flag)",
        "import joblib.externals",
        "import torch.distributed as dist\ndist.broadcast_object_list(x)",
        "from torch import distributed as d\nd.all_gather_object(a, b)",
        "import torch.distributed.checkpoint as dcp\ndcp.save(s, checkpoint_id='x')",
        "from torch.distributed.checkpoint import FileSystemReader as R\nR('x')",
        "import pandas as pd\npd.read_pickle",
        "exec(text)",
        "x = eval(text, {})",
    ],
)
def test_the_lint_can_see(text: str) -> None:
    assert pickles(text)


def test_the_lint_lets_pass_what_is_safe() -> None:
    calls = ("json.load(f)", "model.eval()", "model.load(x)", "state.save(p)", "np.load(f, allow_pickle=False)")
    assert pickles("\n".join(["import json, torch", *calls])) == []


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return (Path.touch, (self.canary,))


def bombs(folder: Path, canary: Path) -> list[bytes]:
    """Return the bomb as a bare pickle, as a file of torch, and as an array of numpy."""
    torch.save({"x": Bomb(canary)}, folder / "t.pt")
    np.save(folder / "n.npy", np.array([Bomb(canary)], dtype=object), allow_pickle=True)
    return [pickle.dumps(Bomb(canary)), (folder / "t.pt").read_bytes(), (folder / "n.npy").read_bytes()]


def test_a_bomb_in_any_file_never_goes_off(tmp_path: Path) -> None:
    """Each file of a checkpoint is replaced by each bomb, with a manifest that vouches for it: refused by type."""
    canary, state = tmp_path / "canary", small(1)
    made = bombs(tmp_path, canary)
    pickle.loads(made[0])
    assert canary.exists()  # the bombs are live
    canary.unlink()
    path = save_checkpoint(state, tmp_path / "run")
    facts = json.loads((path / MANIFEST).read_text())
    for file in sorted(path.iterdir()):
        good, vouched = file.read_bytes(), (path / MANIFEST).read_text()
        for bomb in made:
            file.write_bytes(bomb)
            if file.name != MANIFEST:
                files = {**facts["files"], file.name: file_sha256(file)}
                (path / MANIFEST).write_text(manifest(facts["step"], facts["ranks"], files))
            said: list[str] = []
            with pytest.raises(ArtifactError):
                resume(small(), tmp_path / "run", said.append)
            assert str(file) in said[0]
        file.write_bytes(good)
        (path / MANIFEST).write_text(vouched)
    assert resume(small(), tmp_path / "run") == path
    for name in ("rng.pt", "optimizer.bin", "state.pkl", "data.npz", "training_args.ckpt"):  # files that we never open
        (path / name).write_bytes(made[1])
    assert resume(small(), tmp_path / "run") == path
    assert not canary.exists()


AUDIT = """
import importlib.util, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("states", sys.argv[2])
states = importlib.util.module_from_spec(spec); spec.loader.exec_module(states)
from hanok.train.state import resume, save_checkpoint
seen = []
sys.addaudithook(lambda event, args: event == "pickle.find_class" and seen.append(args))
state = states.small(1)
seen.clear()
save_checkpoint(state, Path(sys.argv[1]))
assert resume(states.small(seed=1), Path(sys.argv[1])) is not None
assert not seen, seen
import pickle
pickle.loads(pickle.dumps(Path("x")))
assert seen  # the hook does see
"""


@pytest.mark.slow
def test_saving_and_loading_unpickle_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", AUDIT, str(tmp_path / "run"), str(Path(__file__).with_name("states.py"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
