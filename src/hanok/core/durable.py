"""Writing that survives kills, full disks and power cuts: a name stands for old content or new, never for a mixture.

What a system call has not flushed may be lost or half there after a power cut. So: files are flushed before the name
that leads to them, folders before the name that leads to them, and a name is flushed before anybody is told.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

CHUNK = 1 << 24  # bytes of one write: large enough to be fast, small enough to be interrupted
AT_FDCWD, RENAME_EXCHANGE = -100, 2
NOT_SUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)


def sync(path: Path) -> None:
    """Wait until a file's content, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(path: Path) -> None:
    """Flush every file and folder below a folder, and the folder itself."""
    for item in path.iterdir():
        if item.is_dir() and not item.is_symlink():
            sync_tree(item)
        elif item.is_file() and not item.is_symlink():
            sync(item)
    sync(path)


def sweep(folder: Path) -> None:
    """Remove what kills in the middle of a write have left below a folder; nobody may be writing there."""
    for left in sorted(folder.rglob(".*.tmp"), reverse=True):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink(missing_ok=True)


def make_dirs(path: Path) -> None:
    """Make a folder and the missing ones above it, so that a power cut cannot take their names back."""
    if path.is_dir():
        return
    make_dirs(path.parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
    sync(path.parent)


def write_file(path: Path, parts: Iterable[bytes | memoryview], *, mode: int = 0o644) -> str:
    """Write a new file, flush it, and return the sha256 of what was meant to be in it; the name is not yet flushed."""
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        for part in parts:
            view = memoryview(part).cast("B")
            for start in range(0, len(view), CHUNK):
                piece = view[start : start + CHUNK]
                digest.update(piece)
                while piece:
                    piece = piece[os.write(descriptor, piece) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def replace_file(path: Path, content: bytes) -> None:
    """Put new content under a name; a reader sees the old file or the whole new one."""
    make_dirs(path.parent)
    work = beside(path)
    try:
        write_file(work, [content])
        os.replace(work, path)
        sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(work)
        raise


def publish(work: Path, path: Path) -> None:
    """Give a folder whose content is flushed its name; a folder that has the name already is exchanged and removed."""
    os.chmod(work, 0o755)
    sync(work)
    if not path.exists():
        os.rename(work, path)
        sync(path.parent)
        return
    old = work
    if not exchange(work, path):  # then the name is free for a moment: an older system offers no better
        old = beside(path, "old")
        os.rename(path, old)
        os.rename(work, path)
    try:
        sync(path.parent)
    except OSError:
        if old == work:
            exchange(work, path)
        raise
    remove_tree(old)


def exchange(one: Path, other: Path) -> bool:
    """Let two names swap what they stand for, in one step; return whether the system can."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in NOT_SUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(other))


def beside(path: Path, suffix: str = "tmp") -> Path:
    """Return a fresh hidden name next to a path."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.{suffix}")


def remove_tree(path: Path) -> None:
    """Remove what nothing needs any more, as far as that is possible."""
    with contextlib.suppress(OSError):
        if not path.is_dir() or path.is_symlink():
            os.unlink(path)
            return
        for item in path.iterdir():
            remove_tree(item)
        os.rmdir(path)
