"""Spoil JSON, bytes and archives at random, always the same for the same generator."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from random import Random
from typing import Any

__all__ = ["mutated_archive", "mutated_bytes", "mutated_json", "mutated_text"]

DEEP = "@" + "[" * 400 + "]" * 400 + "@"
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 0.5, -0.5, 2**31, 2**63, 2**64, -(2**70), 10**30),
    *("", "x", "0", "1", "true", "\u0000", "\ud800", "x" * 300, "x" * 5000, "../../etc/passwd", "/etc/passwd", "☟"),
    *("\u001b[31m", "a\nb", [], {}, [[]], [1], ["x"], [None], {"a": 1}, {"": []}, [0.5, 0.5], [-1, 2]),
    *("@1e999@", "@-1e999@", "@NaN@", "@Infinity@", "@1" + "0" * 400 + "@", DEEP),
)
"""Texts between ``@`` are written bare."""
BYTES = (
    b"\0",
    b"\xff",
    b"\x80",
    b"PK\3\4",
    b"\x93NUMPY",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"{",
    b"[",
    b'"',
    b"\n",
    b"\\ud800",
)


YAML_VALUES = (".inf", "1e999", "9" * 400, "-1", "!!python/tuple [1, 2]", "{}", "[1, 2", "*x", "&x 3", "2020-99-99")


def mutated_json(random: Random, content: bytes) -> bytes:
    """The JSON with one to four of its values, keys or characters changed."""
    if random.random() < 0.15:
        return mutated_bytes(random, content)
    data = json.loads(content)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        data = _changed(random, data)
    text = json.dumps(data)
    text = text.replace('"@', "").replace('@"', "")
    if random.random() < 0.05 and "{" in text:  # a key twice
        text = text.replace("{", '{"format": 1, "format": 2, ', 1)
    return text.encode("utf-16" if random.random() < 0.03 else "utf-8", "surrogatepass")


def _changed(random: Random, data: Any) -> Any:
    places = list(_places(data))
    if not places or random.random() < 0.03:
        return _odd(random)
    holder, key = random.choice(places)
    what = random.random()
    if what < 0.6:
        holder[key] = _odd(random)
    elif what < 0.75:
        del holder[key]
    elif what < 0.85:
        other_holder, other = random.choice(places)
        if other in other_holder if isinstance(other_holder, dict) else other < len(other_holder):
            holder[key] = copy.deepcopy(other_holder[other])
    elif isinstance(holder, dict):
        holder[random.choice(("x", "", "type", "rope_type", "file", "\u0000", "bytes"))] = _odd(random)
    else:
        holder.insert(random.randrange(len(holder) + 1), _odd(random))
    return data


def _odd(random: Random) -> Any:
    return copy.deepcopy(random.choice(ODD))


def _places(data: Any) -> list[tuple[Any, Any]]:
    found, waiting = [], [data]
    while waiting and len(found) < 5000:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            found.append((holder, key))
            waiting.append(holder[key])
    return found


def mutated_bytes(random: Random, content: bytes, header: int = 0) -> bytes:
    """One to eight edits; with ``header``, half of them among the first so many bytes."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 4, 8))):
        end = min(header, len(data)) if header and random.random() < 0.5 else len(data)
        at = random.randrange(end) if end else 0
        what = random.random()
        if what < 0.4 and data:
            data[at] = random.randrange(256)
        elif what < 0.55:
            data[at:at] = random.choice(BYTES) * random.choice((1, 1, 4, 200))
        elif what < 0.7:
            del data[at : at + random.choice((1, 4, 64, 1000))]
        elif what < 0.8:
            del data[at:]
        elif what < 0.9:
            data[at : at + 64] = bytes(64)
        else:
            data[at:at] = data[at : at + random.choice((8, 100))]
    return bytes(data)


def mutated_text(random: Random, content: bytes) -> bytes:
    """Lines moved, doubled and deepened, or bytes changed."""
    lines = content.decode("utf-8", "replace").splitlines()
    if random.random() < 0.4 or not lines:
        return mutated_bytes(random, content)
    for _ in range(random.choice((1, 1, 3))):
        at = random.randrange(len(lines))
        key, colon, value = lines[at].partition(":")
        lines[at] = random.choice(
            (
                f"{key}: {random.choice(YAML_VALUES)}",
                f"{key}: {'[' * 300}{']' * 300}",
                f"{lines[at]}\n{lines[at]}",
                f"  {lines[at]}",
                lines[at].lstrip(),
                f"{key}: !!python/object/apply:os.system ['true']",
                f"{key}{colon}{value[::-1]}",
            )
        )
    return "\n".join(lines).encode()


def mutated_archive(random: Random, content: bytes) -> bytes:
    """A zip archive with members changed, or its own bytes."""
    if random.random() < 0.3:
        return mutated_bytes(random, content, header=200)
    stream = io.BytesIO()
    method = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(io.BytesIO(content)) as source, zipfile.ZipFile(stream, "w", method) as target:
        chosen = random.choice(source.namelist())
        for name in source.namelist():
            member = source.read(name)
            if name == chosen or name.endswith("data.pkl"):
                member = mutated_bytes(random, member, header=140)
            target.writestr(name if random.random() < 0.97 else name + "x", member)
    archive = bytearray(stream.getvalue())
    if random.random() < 0.1:  # encrypted, or another method
        signature, offset = random.choice(((b"PK\1\2", 8), (b"PK\3\4", 6), (b"PK\1\2", 10), (b"PK\3\4", 8)))
        archive[archive.find(signature) + offset] ^= random.choice((1, 8, 99))
    return bytes(archive)
