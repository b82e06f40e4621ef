"""A worker without a model: answers on its Unix socket at once, says who it is, and can be told to hang or to die."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading


def chunk(text: str) -> bytes:
    raw = text.encode()
    return b"%x\r\n%s\r\n" % (len(raw), raw)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = next((int(line[15:]) for line in head.split("\r\n") if line.startswith("content-length:")), 0)
    body = (await reader.readexactly(length)).decode()
    path = head.split()[1]
    if path == "/metrics":
        text = (
            '# TYPE n_total counter\nn_total{who="w"} 3.0\n# TYPE use_perc gauge\nuse_perc 0.5\n# TYPE r gauge\nr 2.0\n'
        )
        status = "200 OK" if "authorization: bearer key" in head else "401 Unauthorized"
        raw = f"HTTP/1.1 {status}\r\ncontent-length: {len(text)}\r\n\r\n{text}"
        writer.write(raw.encode())
    elif path == "/ready" or "stream" not in body:
        if "die" in body:
            os.kill(os.getpid(), signal.SIGKILL)
        text = json.dumps({"pid": os.getpid(), "path": path, "host": "host: outside" in head, "status": "ok"})
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-length: {len(text)}\r\nx-own: 1\r\n\r\n{text}".encode())
    else:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        writer.write(chunk(f'data: {{"pid": {os.getpid()}}}\n\n'))
        if "hang" in body:
            writer.write(chunk('data: {"half": '))
            await writer.drain()
            await reader.read()  # until the other side hangs up
            with open(os.environ["FAKE_LOG"], "a", encoding="utf-8") as log:
                log.write("hung up\n")
        writer.write(chunk("data: [DONE]\n\n") + b"0\r\n\r\n")
    writer.close()


def watch() -> None:
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


async def main() -> None:
    told = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=watch, daemon=True).start()
    server = await asyncio.start_unix_server(answer, told["config"]["uds"])
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
