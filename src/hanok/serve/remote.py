"""Any OpenAI-compatible server as something that answers: chat completions over HTTP, many at once, tried again."""

from __future__ import annotations

import http.client
import json
import random
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from hanok.core.errors import HanokError, UsageError

AGAIN = {408, 409, 429, 500, 502, 503, 504}
LONGEST = 60.0  # seconds between two tries
PAYLOAD = 64 << 20  # bytes of an answer


class _Refuse(urllib.request.HTTPRedirectHandler):
    """Follows nothing: a key is sent to the address that was given and to no other."""

    def redirect_request(self, *_: Any) -> None:
        """Return no request, so that the redirect becomes an error."""
        return


@dataclass(frozen=True)
class Remote:
    """A model behind `url` (`http://host:port/v1`), asked by at most `parallel` threads.

    A request that meets a full or failing server, or none, is sent again up to `tries` times, after waits that double
    or that the server names; a request that the server refuses is an error at once.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    parallel: int = 8
    tries: int = 6
    timeout: float = 600.0
    pause: Callable[[float], None] = field(default=time.sleep, repr=False)

    def __post_init__(self) -> None:
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).netloc:
            raise UsageError(f"an endpoint is an http(s) address such as http://127.0.0.1:8000/v1, not {self.url!r}")

    @classmethod
    def find(cls, url: str, model: str | None = None, *, key: str | None = None, **options: Any) -> Remote:
        """Return the model of a name, or the only one that the server lists."""
        made = cls(url.rstrip("/"), model or "", key, **options)
        if model:
            return made
        listed = [str(card.get("id")) for card in made.send("/models", None).get("data", [])]
        if len(listed) != 1:
            raise UsageError(f"{url} serves {len(listed)} models: say which (known: {', '.join(listed[:20])})")
        return cls(made.url, listed[0], key, **options)

    @property
    def name(self) -> str:
        """Return the model's name at its address."""
        return f"{self.model} at {self.url}"

    def chat(self, messages: Sequence[dict[str, Any]], **options: Any) -> tuple[str, str]:
        """Return the text of one chat completion and why it ended (`stop`, `length`)."""
        answer = self.send("/chat/completions", {"model": self.model, "messages": list(messages), **options})
        try:
            choice = answer["choices"][0]
            return str(choice["message"]["content"] or ""), str(choice.get("finish_reason"))
        except (KeyError, IndexError, TypeError):
            raise HanokError(f"{self.url}: the answer is no chat completion: {json.dumps(answer)[:200]}") from None

    def each(self, requests: Sequence[dict[str, Any]]) -> Iterator[tuple[int, tuple[str, str]]]:
        """Yield (place, (text, why it ended)) as answers come; no more than `parallel` requests are under way.

        Where one fails for good, what has come is yielded first; requests that have not been sent never are.
        """
        todo = iter(enumerate(requests))
        with ThreadPoolExecutor(self.parallel) as pool:
            running: dict[Future[tuple[str, str]], int] = {}
            failed: BaseException | None = None
            while True:
                if failed is None:
                    for at, request in islice(todo, self.parallel - len(running)):
                        running[pool.submit(self.chat, **request)] = at
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    at = running.pop(future)
                    if (error := future.exception()) is None:
                        yield at, future.result()
                    else:
                        failed = failed or error
        if failed is not None:
            raise failed

    def send(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        """Return the JSON answer to a request, which is sent again while that may help."""
        for attempt in range(1, self.tries + 1):
            try:
                return self._once(path, body)
            except urllib.error.HTTPError as error:
                said = error.read(2000).decode(errors="replace")
                trouble, after = f"{error.code} {error.reason}: {said[:300]}", error.headers.get("Retry-After")
                error.close()
                if error.code not in AGAIN:
                    raise HanokError(f"{self.url}{path}: {trouble}") from None
            except (OSError, http.client.HTTPException, ValueError) as error:
                trouble, after = f"{type(error).__name__}: {error}", None
            if attempt < self.tries:
                self.pause(delay(attempt, after))
        raise HanokError(f"{self.url}{path}: no answer after {self.tries} tries; the last: {trouble}")

    def _once(self, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers)
        with urllib.request.build_opener(_Refuse).open(request, timeout=self.timeout) as response:
            found = json.loads(response.read(PAYLOAD))
        if not isinstance(found, dict):
            raise ValueError("the answer is no JSON object")
        return found


def delay(attempt: int, after: str | None) -> float:
    """Return the seconds before the next try: what the server said, or 0.5, 1, 2, ... with a little chance in it."""
    try:
        wanted = float(after) if after is not None else 0.5 * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)
    except ValueError:
        wanted = 1.0  # a date: rare, and not worth a parser
    return min(max(wanted, 0.0), LONGEST)
