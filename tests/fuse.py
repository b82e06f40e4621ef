"""A process that ends itself by SIGKILL at a chosen system call."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any


class Fuse:
    """Ends this process by SIGKILL at the `left`-th system call that Python's audit hooks see while it is lit."""

    def __init__(self, left: int) -> None:
        self.left, self.lit = left, False
        sys.addaudithook(self._see)

    def around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """Return the same work, during which the fuse burns."""

        def burning(*args: Any, **kwargs: Any) -> Any:
            self.lit = True
            try:
                return work(*args, **kwargs)
            finally:
                self.lit = False

        return burning

    def _see(self, event: str, args: Any) -> None:
        if self.lit and (event == "open" or event.startswith(("os.", "shutil."))):
            self.left -= 1
            if self.left < 0:
                self.lit = False  # the next line is a call that hooks see, too
                os.kill(os.getpid(), signal.SIGKILL)
