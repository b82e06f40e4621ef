"""What a hostile or damaged model directory may hold: wrong values, lengths that lie, templates that never end."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

NUMBERS = [10**5, 10**6, 10**9, 10**15, 2**31 - 1, 2**31, 2**62, 2**63, 10**30, 10**400, 999, 7, 1, 0, -1, -(10**9)]
NUMBERS += [0.5, 1.5, 3.0, -0.0, 1e308, float("nan"), float("inf"), -float("inf")]
OTHERS: list[Any] = [None, True, False, "", "x", "7", "NaN", "\ud800", [], {}, [[]], [None], {"a": 1}, {"": []}]
OTHERS += [{"rope_type": "yarn"}, [1, 2, 3], ["full_attention"], list(range(2000)), "x" * 5000, [1e9] * 50]
LENGTHS = (0, 1, 255, 1 << 31, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 10**8)
SHAPES = [[], [0], [10**9, 10**9], [-1], [2**62], "x", None, [1.5], [True], [1] * 100, [0, 2**41]]
PLACES = [[0, 10], [10, 0], [0], [-4, 4], [2**63, 2**63 + 4], "x", None, [0, 1.5], [0, 2**64]]
TYPES = ["F64", "I8", "U8", "BOOL", "I32", "F16", "BF16", "F8_E4M3", "C64", "zz", None, 3, []]
TEMPLATES = ["{{", "{% for %}", "{{ 1/0 }}", '{% include "x" %}', "{{ messages.__class__.__mro__ }}", "{{ x }" * 999]
TEMPLATES += ["{% for i in range(10**9) %}x{% endfor %}", '{{ "x" * 10**10 }}', "{{" + "(" * 5000, "{% if 1 %}" * 3000]


def deep(levels: int, kind: type) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value] if kind is list else {"a": value}
    return value


def paths(data: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        yield (*at, key)
        if isinstance(value, dict | list) and len(at) < 3:
            yield from paths(value, (*at, key))


def mutate_json(text: bytes, rng: random.Random) -> bytes:
    """Return JSON with one to three wrong values, or wrong altogether."""
    if rng.random() < 0.15:
        return mutate_text(text, rng)
    data = json.loads(text)
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        places = list(paths(data))
        if not places:
            break
        *steps, last = rng.choice(places)
        node = data
        for step in steps:
            node = node[step]
        match rng.randrange(5):
            case 0:
                del node[last]
            case 1 | 2:
                node[last] = rng.choice(NUMBERS)
            case 3:
                node[last] = copy.deepcopy(rng.choice(OTHERS))
            case _:
                node[last] = deep(rng.choice((3, 50)), rng.choice((list, dict)))
    return json.dumps(data).encode()


def mutate_text(text: bytes, rng: random.Random) -> bytes:
    """Return text that is no JSON any more, or no object, or says a thing twice."""
    at = rng.randrange(len(text))
    return rng.choice(
        [
            b"[]",
            b"3",
            b"",
            b"\xef\xbb\xbf" + text,
            b"[" * 100_000,
            b'{"a":' * 50_000,
            text[:at],
            text[:at] + rng.randbytes(3) + text[at:],
            text.rstrip()[:-1] + b", " + text.lstrip()[1:],
            text[:at] + b"9" * 5000 + text[at:],
        ]
    )


def mutate_weights(data: bytes, rng: random.Random) -> bytes:
    """Return a safetensors file whose header lies, or whose bytes are not what they were."""
    length = int.from_bytes(data[:8], "little")
    if rng.random() < 0.4:
        out = bytearray(data)
        at = rng.randrange(8 + length if rng.random() < 0.6 else len(out))
        match rng.randrange(5):
            case 0:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                out[:8] = rng.choice((*LENGTHS, len(out), length - 1, length + 1)).to_bytes(8, "little")
            case 2:
                del out[at:]
            case 3:
                del out[at : at + rng.randrange(1, 40)]
            case _:
                out[at:at] = rng.randbytes(rng.randrange(1, 40))
        return bytes(out)
    header = json.loads(data[8 : 8 + length])
    names = [name for name in header if name != "__metadata__"]
    name, other = rng.sample(names, 2)
    entry = header[name]
    match rng.randrange(9):
        case 0:
            del header[name]
        case 1:
            entry["shape"] = rng.choice([*SHAPES, entry["shape"][::-1], [*entry["shape"], 1], [1, *entry["shape"]]])
        case 2:
            entry["dtype"] = rng.choice(TYPES)
        case 3:
            entry["data_offsets"] = rng.choice(PLACES)
        case 4:
            header[name] = header[other]
        case 5:
            header[name + rng.choice(("x", ".weight", "\ud800", "é" * 1000))] = entry
        case 6:
            header[name] = rng.choice([None, 1, [], "x", {}])
        case 7:
            stray = rng.choice(("evil", "model.layers.99.x", "../x", "a" * 100_000))
            header[stray] = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
        case _:  # the same bytes as another type
            entry["dtype"], entry["shape"] = "F16", [*entry["shape"], 2]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def mutate_template(text: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.5:
        return rng.choice(TEMPLATES).encode()
    at = rng.randrange(len(text))
    return rng.choice([text[:at], text[:at] + rng.randbytes(4) + text[at:], text[:at] + b"{%" + text[at:]])
