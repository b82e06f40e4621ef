"""A worker process: a job on the first line of its input, then a unit on each line, and an answer to each."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from typing import Any

from hanok.text.data.pipeline.job import Worker


def main() -> None:
    """Work until the input ends; when it ends in the middle of a unit, whoever asked is gone, and the work is left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the leader decides
    answers, sys.stdout = sys.stdout, sys.stderr  # nothing that prints may come between the answers
    lines: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(lines,), daemon=True).start()
    worker = Worker(lines.get())
    while True:
        answers.write(json.dumps(worker(int(lines.get()))) + "\n")
        answers.flush()


def _listen(lines: queue.SimpleQueue[Any]) -> None:
    for line in sys.stdin:
        lines.put(json.loads(line))
    os._exit(0)


if __name__ == "__main__":
    main()
