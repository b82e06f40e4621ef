"""A disk that keeps a log, fails on demand, and shows every state that a power cut could leave behind.

`Recorder` stands between the program and the system: it notes each call that changes the disk (below a root), or lets
the n-th one fail. `states` takes such a log and yields every tree that may be found after the power went at any moment:
of what was not flushed, data may be missing, half there or zeros, and changes of a folder may be there in any subset.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import combinations, product
from pathlib import Path
from typing import Any

from hanok.core import durable

Tree = dict[str, Any]  # name -> bytes or Tree
Op = tuple[Any, ...]


class Recorder:
    """Patches the system calls that write; use it in a `with` block, with pytest's monkeypatch."""

    def __init__(self, patch: Any, root: Path) -> None:
        self.patch, self.root, self.log = patch, root, list[Op]()
        self.fail_at, self.error, self.calls, self.only = -1, errno.ENOSPC, 0, ""
        self._paths: dict[int, Path] = {}

    def __enter__(self) -> Recorder:
        for name in ("open", "write", "fsync", "close", "rename", "replace", "mkdir", "unlink", "rmdir", "chmod"):
            self.patch.setattr(os, name, getattr(self, f"_{name}")(getattr(os, name)))
        self.patch.setattr(durable, "exchange", self._exchange(durable.exchange))
        return self

    def __exit__(self, *_: Any) -> None:
        self.patch.undo()

    def note(self, *what: Any) -> None:
        self.log.append(what)

    def ours(self, path: Any) -> bool:
        return isinstance(path, str | Path) and Path(path).is_relative_to(self.root)

    def may_fail(self, call: str, path: Any) -> None:
        if self.only not in str(path):
            return
        self.calls += 1
        if self.calls - 1 == self.fail_at:
            raise OSError(self.error, os.strerror(self.error), f"{call} {path}")

    def _open(self, real: Callable[..., int]) -> Callable[..., int]:
        def do(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
            if not self.ours(path):
                return real(path, flags, mode, **more)
            new = bool(flags & os.O_CREAT) and not os.path.exists(path)
            if new:
                self.may_fail("open", path)
            descriptor = real(path, flags, mode, **more)
            self._paths[descriptor] = Path(path)
            if new:
                self.note("create", Path(path))
            return descriptor

        return do

    def _write(self, real: Callable[..., int]) -> Callable[..., int]:
        def do(descriptor: int, data: Any) -> int:
            if descriptor in self._paths:
                if self.calls == self.fail_at and len(data) > 1:  # a full disk takes what still fits
                    real(descriptor, bytes(data)[: len(data) // 2])
                self.may_fail("write", self._paths[descriptor])
                self.note("write", self._paths[descriptor], bytes(data))
            return real(descriptor, data)

        return do

    def _fsync(self, real: Callable[..., None]) -> Callable[..., None]:
        def do(descriptor: int) -> None:
            if descriptor in self._paths:
                self.may_fail("fsync", self._paths[descriptor])
                self.note("fsync", self._paths[descriptor])
            real(descriptor)

        return do

    def _close(self, real: Callable[..., None]) -> Callable[..., None]:
        def do(descriptor: int) -> None:
            self._paths.pop(descriptor, None)
            real(descriptor)

        return do

    def _two(self, call: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def do(source: Any, target: Any, **more: Any) -> Any:
            if not self.ours(source):
                return real(source, target, **more)
            self.may_fail(call, source)
            done = real(source, target, **more)
            if done is not False:
                self.note(call, Path(source), Path(target))
            return done

        return do

    def _rename(self, real: Callable[..., Any]) -> Callable[..., Any]:
        return self._two("rename", real)

    def _replace(self, real: Callable[..., Any]) -> Callable[..., Any]:
        return self._two("rename", real)

    def _exchange(self, real: Callable[..., Any]) -> Callable[..., Any]:
        return self._two("exchange", real)

    def _one(self, call: str, real: Callable[..., None]) -> Callable[..., None]:
        def do(path: Any, *args: Any, **more: Any) -> None:
            if not self.ours(path):
                real(path, *args, **more)
                return
            self.may_fail(call, path)
            real(path, *args, **more)
            self.note(call, Path(path))

        return do

    def _mkdir(self, real: Callable[..., None]) -> Callable[..., None]:
        return self._one("mkdir", real)

    def _unlink(self, real: Callable[..., None]) -> Callable[..., None]:
        return self._one("unlink", real)

    def _rmdir(self, real: Callable[..., None]) -> Callable[..., None]:
        return self._one("unlink", real)

    def _chmod(self, real: Callable[..., None]) -> Callable[..., None]:
        def do(path: Any, *args: Any, **more: Any) -> None:
            if self.ours(path):
                self.may_fail("chmod", path)
            real(path, *args, **more)

        return do


@dataclass(eq=False)
class File:
    data: bytes = b""
    safe: bytes = b""

    def variants(self) -> list[bytes]:
        """Return what may be found after a power cut: as flushed, half, zeros, or all of it."""
        if self.data == self.safe:
            return [self.data]
        return list({self.safe, self.data[: len(self.data) // 2], bytes(len(self.data)), self.data})


@dataclass(eq=False)
class Folder:
    now: dict[str, File | Folder] = field(default_factory=dict)
    safe: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[dict[str, File | Folder | None]] = field(default_factory=list)

    def change(self, change: dict[str, File | Folder | None]) -> None:
        self.pending.append(change)
        apply(self.now, change)

    def variants(self) -> list[dict[str, File | Folder]]:
        """Return the names that may be found after a power cut: any subset of the changes not yet flushed."""
        found = []
        for size in range(len(self.pending) + 1):
            for chosen in combinations(self.pending, size):
                names = dict(self.safe)
                for change in chosen:
                    apply(names, change)
                if names not in found:
                    found.append(names)
        return found


def apply(names: dict[str, File | Folder], change: dict[str, File | Folder | None]) -> None:
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class Disk:
    """What is on a disk and in its cache, below a root that was there before."""

    def __init__(self, root: Path) -> None:
        self.root, self.top = root, Folder()

    def at(self, path: Path) -> Any:
        node: Any = self.top
        for name in path.relative_to(self.root).parts:
            node = node.now[name]
        return node

    def do(self, op: Op) -> None:
        kind, path, *rest = op
        if kind in ("create", "mkdir"):
            self.at(path.parent).change({path.name: File() if kind == "create" else Folder()})
        elif kind == "write":
            self.at(path).data += rest[0]
        elif kind == "fsync":
            node = self.at(path)
            if isinstance(node, File):
                node.safe = node.data
            else:
                node.safe, node.pending = dict(node.now), []
        elif kind == "rename":
            assert path.parent == rest[0].parent
            self.at(path.parent).change({path.name: None, rest[0].name: self.at(path)})
        elif kind == "exchange":
            self.at(path.parent).change({path.name: self.at(rest[0]), rest[0].name: self.at(path)})
        elif kind == "unlink":
            self.at(path.parent).change({path.name: None})

    def found(self, node: Any = None, *, hidden: bool = False) -> Iterator[Any]:
        """Yield every tree that a power cut at this moment may leave; hidden names are left out, nobody reads them."""
        node = self.top if node is None else node
        if isinstance(node, File):
            yield from node.variants()
            return
        for names in node.variants():
            seen = sorted(name for name in names if hidden or not name.startswith("."))
            for parts in product(*(list(self.found(names[name], hidden=hidden)) for name in seen)):
                yield dict(zip(seen, parts, strict=True))


def states(log: list[Op], root: Path) -> Iterator[tuple[int, Tree]]:
    """Yield (number of steps acknowledged so far, tree) for every state after every operation, each once per moment."""
    disk, acknowledged = Disk(root), 0
    for op in [("start", root), *log]:
        if op[0] == "ack":
            acknowledged = op[1]
        else:
            disk.do(op)
        seen = set()
        for tree in disk.found():
            if (text := key(tree)) not in seen:
                seen.add(text)
                yield acknowledged, tree


def key(tree: Any) -> Any:
    """Return something hashable that is equal for equal trees."""
    return tree if isinstance(tree, bytes) else tuple((name, key(part)) for name, part in sorted(tree.items()))


def write_out(tree: Tree, path: Path) -> None:
    """Make a tree real."""
    path.mkdir()
    for name, part in tree.items():
        if isinstance(part, bytes):
            (path / name).write_bytes(part)
        else:
            write_out(part, path / name)


def read_in(path: Path) -> Tree:
    """Return the tree that is there."""
    return {item.name: read_in(item) if item.is_dir() else item.read_bytes() for item in path.iterdir()}
