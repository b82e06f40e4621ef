"""What every test lives under: two cores, no network beyond this machine, slow tests only when asked for."""

from __future__ import annotations

import gc
import os
import platform
import random
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("NO_COLOR", "1")
os.environ.setdefault("HANOK_NATIVE", "0")  # tests of the kernels ask for them; no other depends on a cache folder

SLOW = pytest.StashKey[int]()  # how many tests were left out
LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0")

WIDE = (
    "-mavx2",
    "-mfma",
    "-mf16c",
    "-Wno-psabi",
    "-include",
    str(Path(__file__).parent / "ops" / "native" / "avx512.h"),
)
VERSIONS = {"portable": (), "avx512": WIDE, "avx512-vnni": (*WIDE, "-DEMULATE_VNNI")}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests that take minutes, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.parent.name != "end_to_end")  # the longest file begins first
    slow = [] if config.getoption("--slow") else [item for item in items if "slow" in item.keywords]
    if slow:  # left out rather than skipped: a thousand reports of skips between processes take seconds
        left = set(slow)
        items[:] = [item for item in items if item not in left]
        config.hook.pytest_deselected(items=slow)
    config.stash[SLOW] = len(slow)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # a worker of xdist, which only the main process hears
        session.config.workeroutput["slow"] = session.config.stash.get(SLOW, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    output = getattr(node, "workeroutput", {})  # of a worker that crashed there is none; all collect the same tests
    node.config.stash[SLOW] = max(node.config.stash.get(SLOW, 0), output.get("slow", 0))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    count = config.stash.get(SLOW, 0)
    if count:
        terminalreporter.write_line(f"{count} slow tests were left out: run them with ./test --slow")


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # what is imported stays: no collection of the tests' garbage walks through it


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse any connection that would leave this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not str(address[0]).startswith(LOOPBACK):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """One torch thread (tests run side by side, and waiting threads would hinder each other); settings as they were."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def serve() -> Callable[..., list[Any]]:
    """Return serve(model, tokens, pool, seed, chunks, slots=None): each sequence's logits, read through pages.

    Sequences are fed in random chunks, several in a step, with the pool checked after each; `slots` may be prepared.
    """
    import torch

    from hanok.engine.layout import Row
    from hanok.engine.paged import Paged

    def feed(model: Any, tokens: Any, pool: Any, seed: int, chunks: tuple[int, ...], slots: Any = None) -> list[Any]:
        rng = random.Random(seed)
        slots = [pool.open() for _ in tokens] if slots is None else slots
        parts: list[list[Any]] = [[] for _ in tokens]
        while any(slot.length < len(ids) for slot, ids in zip(slots, tokens, strict=True)):
            rows: dict[int, Row] = {}
            for i, (slot, ids) in enumerate(zip(slots, tokens, strict=True)):
                if slot.length < len(ids) and rng.random() < 0.8:
                    count = min(len(ids) - slot.length, rng.choice(chunks))
                    rows[i] = Row(slot, slot.length, count)
                    pool.append(slot, count)
            if rows:
                step = torch.cat([tokens[i][row.start : row.start + row.length] for i, row in rows.items()])[None]
                logits = model(step, Paged(pool, list(rows.values())))[0].split([row.length for row in rows.values()])
                for i, part in zip(rows, logits, strict=True):
                    parts[i].append(part)
            pool.check()
        return [torch.cat(part) for part in parts]

    return feed


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of reference data beside the project, or skip."""
    for parent in Path(__file__).resolve().parents:
        if (parent / "shared" / "data").is_dir():
            return parent / "shared" / "data"
    pytest.skip("the reference data (../shared/data) is not here")


@pytest.fixture(
    scope="session", params=["native", *(pytest.param(name, marks=pytest.mark.slow) for name in VERSIONS)], ids=str
)
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The kernels, built in the user's cache folder; with --slow those for other processors, too.

    They are plain code, and AVX-512 with its instructions spelt out.
    """
    from hanok.ops import native
    from hanok.ops.native import build

    if build.compiler() is None:
        pytest.skip("no C++ compiler is here")
    if request.param == "native":
        path = build.build()
        assert path is not None, build.failure()
        return native.load(path)
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("the versions for x86")
    path = tmp_path_factory.mktemp("kernels") / f"{request.param}.so"
    words = [build.compiler(), *build.FLAGS, *VERSIONS[request.param], str(build.SOURCE / build.MAIN), "-o", str(path)]
    subprocess.run(words, check=True)
    found = native.load(path)
    assert found.hanok_vectors().decode() == request.param
    return found


@pytest.fixture
def kernels(library: Any) -> Iterator[Any]:
    """Compute by the kernels in this test, in exact numerics too."""
    from hanok.ops import native

    with native.used(library):
        yield library
