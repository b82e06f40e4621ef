"""A worker's process: reads what to serve from standard input, and ends in order when that closes.

The settings come through the pipe and not through arguments or the environment, where other programs could read keys;
and when the router dies, however it dies, the pipe closes and its workers go with it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

from hanok.core.errors import HanokError


def main() -> int:
    """Serve until a signal comes or the router is gone."""
    line = sys.stdin.buffer.readline()
    if not line:
        return 0
    told = json.loads(line)
    threading.Thread(target=watch, name="hanok-parent", daemon=True).start()
    from hanok.serve.config import ServeConfig
    from hanok.serve.server import serve

    try:
        serve(told["source"], ServeConfig.parse(told["config"]))
    except HanokError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def watch() -> None:
    """End this process in order when the pipe closes."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
