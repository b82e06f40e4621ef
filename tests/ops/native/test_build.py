"""How the library comes to be: only when asked for, whole or not at all, and torch without it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from hanok.nn.linear import Linear
from hanok.ops import native
from hanok.ops.native import build
from hanok.ops.native.check import checked


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A cache folder of its own and a process that has not looked yet; the compiler is a script that copies."""
    monkeypatch.delenv("HANOK_NATIVE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for cached in (build.compiler, build.library):
        cached.cache_clear()
    with native.used(None):
        native._State.looked = native._State.is_settled = False
        yield tmp_path
    for cached in (build.compiler, build.library):
        cached.cache_clear()


def compiler(folder: Path, does: str) -> str:
    path = folder / "fake-c++"
    path.write_text(f"#!/bin/sh\nfor last; do :; done\n{does}\n")
    path.chmod(0o755)
    return str(path)


def test_nothing_is_built_by_importing_or_computing(fresh: Path) -> None:
    assert native.kernels() is None
    with torch.no_grad():
        Linear(4, 4)(torch.randn(1, 4))
    assert not (fresh / "cache").exists()


def test_switched_off(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANOK_NATIVE", "0")
    assert not native.prepare(wait=True) and native.status() == "off (HANOK_NATIVE=0)"
    assert not (fresh / "cache").exists()


def test_without_a_compiler(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(fresh))
    monkeypatch.delenv("CXX", raising=False)
    assert not native.prepare(wait=True) and not native.prepare()
    assert "no C++ compiler" in native.status()
    with torch.no_grad():
        assert Linear(4, 4).pack("int4")(torch.randn(1, 4)).shape == (1, 4)


def test_a_failed_build_is_told_and_not_tried_again(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", compiler(fresh, "echo once >> " + str(fresh / "tries") + "; echo 'no room' >&2; exit 1"))
    assert not native.prepare(wait=True)
    assert native.status() == "not used: the build failed: no room"
    assert not native.prepare()
    assert (fresh / "tries").read_text() == "once\n"


def test_half_a_library_is_never_found(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that dies after writing half of its output leaves nothing under the library's name."""
    monkeypatch.setenv("CXX", compiler(fresh, 'echo half > "$last"; kill -9 $$'))
    assert not native.prepare(wait=True)
    path = build.library()
    assert path is not None and not path.exists()


def test_several_processes_build_at_once(fresh: Path, library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them end with a whole library, which each can load."""
    made = Path(library._name)
    monkeypatch.setenv("CXX", compiler(fresh, f'sleep 0.2; cp "{made}" "$last"'))
    code = "from hanok.ops import native; assert native.prepare(wait=True), native.status()"
    tries = [subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ)) for _ in range(2)]
    assert [one.wait(120) for one in tries] == [0, 0]
    path = build.library()
    assert path is not None and path.read_bytes() == made.read_bytes()
    assert [file.name for file in path.parent.iterdir()] == ["kernels.so"]


def test_a_background_build_arrives(fresh: Path, library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Path(library._name)
    monkeypatch.setenv("CXX", compiler(fresh, f'cp "{made}" "$last"'))
    assert not native.prepare()
    for thread in __import__("threading").enumerate():
        if thread.name == "hanok-native":
            thread.join(60)
    assert native.kernels() is not None and native.status().startswith("ready")


def test_who_has_not_asked_computes_by_torch(fresh: Path, library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that is resumed finds the kernels that it began with: none, though another program has built them."""
    made = Path(library._name)
    monkeypatch.setenv("CXX", compiler(fresh, f'cp "{made}" "$last"'))
    native._State.wanted = False
    assert build.build() is not None and native.status().startswith("ready")
    assert native.kernels() is None and native.exact_kernels() is None
    assert native.prepare() and native.kernels() is not None


def test_exact_numerics_settle_once(fresh: Path, library: Any) -> None:
    """A library that arrives later changes no bit of a process that has begun without it."""
    assert native.exact_kernels() is None
    native._State.loaded = library
    assert native.exact_kernels() is None and native.kernels() is library


def test_a_library_whose_numbers_are_wrong_is_not_used(fresh: Path, library: Any) -> None:
    """The right one passes; one whose products are all zero does not."""

    class Wrong:
        def __getattr__(self, name: str) -> Any:
            return (lambda *_: None) if name == "hanok_product" else getattr(library, name)

    assert checked(library) is library
    with pytest.raises(OSError, match="differ"):
        checked(Wrong())
