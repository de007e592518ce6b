"""Ways to spoil a file: bytes, numbers, trees of JSON, members of archives, and what formats say of themselves."""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import struct
import zipfile
from typing import Any

JUNK = (
    b"\0", b"\xff", b"9" * 30, b"nan", b"-1", b"1e999", b"-1e308", b",", b"\n", b"[[", b"{}", b"null", b"../", b"\r", b"\x1a",
    b"\xed\xa0\x80", b"'", b'"', b":", b"&a *a", b"!!python/object:os.system", b"\xff\xfe", b" ", b"\t", b"0x10", b"1_0",
    "\u0663\u2028".encode(), b"\x7fELF", b"PK\x03\x04", b"[" * 3000,
)  # fmt: skip
NUMBERS = (
    b"0", b"-0", b"-1", b"1", b"0.5", b"1e-320", b"1e308", b"1e999", b"-1e999", b"nan", b"2147483648", b"9223372036854775807",
    b"9223372036854775808", b"-9223372036854775809", b"1" + b"0" * 400, b"10000000", b"2000000000", b"true",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 0.5, -0.5, 1e308, float("nan"), float("inf"), 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**400,
    "", "a", "..", "../../x", "/etc/passwd", "\0", "\ud800", "nan", "9" * 30, [], [[]], {}, {"": {}}, [None], [1, 2, 3, 4],
    [1e308] * 4, ["a"] * 5, {"a": [1]}, 10_000_000, 2_000_000_000,
)  # fmt: skip


def spoil_bytes(content: bytes, rng: random.Random) -> bytes:
    """Flip, overwrite, insert, drop, repeat or cut bytes, or replace a number; one to four times."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(content) + 1)
        length = rng.choice((1, 1, 2, 4, 8, 40))
        how = rng.randrange(9)
        if how == 0 and at < len(content):
            content = content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :]
        elif how == 1:
            junk = rng.choice(JUNK)
            content = content[:at] + junk + content[at + len(junk) :]
        elif how == 2:
            content = content[:at] + rng.choice(JUNK) + content[at:]
        elif how == 3:
            content = content[:at] + content[at + length :]
        elif how == 4:
            content = content[:at] + content[at : at + length] * rng.choice((2, 3, 50)) + content[at + length :]
        elif how == 5:
            content = content[:at]
        elif how == 6:
            whole = rng.choice((0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))
            raw = struct.pack(rng.choice("<>") + "I", whole)
            content = content[:at] + raw + content[at + 4 :]
        else:
            found = list(re.finditer(rb"-?\d+(\.\d+)?", content[:20_000]))
            if found:
                number = rng.choice(found)
                content = content[: number.start()] + rng.choice(NUMBERS) + content[number.end() :]
    return content


def spoil_tree(value: Any, rng: random.Random) -> Any:
    """Replace, drop or repeat something inside plain JSON."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(sorted(value))
        kept = dict(value)
        how = rng.random()
        if how < 0.1:
            del kept[key]
        elif how < 0.15:
            kept[rng.choice(("", "a", "\0", "license", "__class__"))] = kept.pop(key)
        else:
            kept[key] = spoil_tree(value[key], rng)
        return kept
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        how = rng.random()
        if how < 0.1:
            return value[:at] + value[at + 1 :]
        if how < 0.2:
            return [*value, value[at]]
        return [*value[:at], spoil_tree(value[at], rng), *value[at + 1 :]]
    return rng.choice(VALUES)


def spoil_json(content: bytes, rng: random.Random) -> bytes:
    """Spoil the tree of a JSON document, or of one line of a file that has one document a line; now and then its bytes."""
    if rng.random() < 0.4:
        return spoil_bytes(content, rng)
    lines = content.split(b"\n") if content.count(b"\n") > 1 and content.startswith(b"{") else [content]
    at = rng.randrange(len(lines))
    try:
        tree = json.loads(lines[at])
    except ValueError:
        return spoil_bytes(content, rng)
    for _ in range(rng.choice((1, 1, 2))):
        tree = spoil_tree(tree, rng)
    lines[at] = json.dumps(tree).encode()
    return b"\n".join(lines)


def spoil_zip(content: bytes, rng: random.Random) -> bytes:
    """Spoil a member and pack it again with a right checksum, give it another name, or spoil the archive itself."""
    if rng.random() < 0.3:
        return spoil_bytes(content, rng)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    at = rng.randrange(len(members))
    name, inner = members[at]
    how = rng.random()
    if how < 0.1:
        members[at] = (rng.choice(("../out.npy", "/x", "a" * 300, "frame.npy", "b/c.txt", "\u202e")), inner)
    elif how < 0.2:
        members.append(members[at])
    elif how < 0.6 and b"'shape'" in inner:
        shape = rng.choice(
            ("(-1,)", "(2000000000,)", "(1000000, 1000000, 4)", "()", "(0,)", "(3, 4)", "(3,)", "(2,)", "(1e9,)")
        )
        kind = rng.choice(("|O", "<f8", "<f4", "<i8", "<U9", "|V4", "<c16", "<f2", "|S3", "<M8[s]", "<u8", "|b1"))
        head = f"{{'descr': '{kind}', 'fortran_order': {rng.choice(('False', 'True'))}, 'shape': {shape}, }}".encode()
        body = inner[10 + int.from_bytes(inner[8:10], "little") :]
        members[at] = (name, inner[:8] + struct.pack("<H", len(head) + 1) + head + b"\n" + body)
    else:
        members[at] = (name, spoil_bytes(inner, rng))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, inner in members:
            with contextlib.suppress(UnicodeEncodeError):
                archive.writestr(name, inner)
    return packed.getvalue()


def spoil_safetensors(content: bytes, rng: random.Random) -> bytes:
    """Spoil the JSON in front of the weights, or tdtrack's own JSON inside that, or bytes."""
    length = int.from_bytes(content[:8], "little")
    head, body = json.loads(content[8 : 8 + length]), content[8 + length :]
    how = rng.random()
    if how < 0.2:
        return spoil_bytes(content, rng)
    if how < 0.4:
        head = spoil_tree(head, rng)
    else:
        own = json.loads(head["__metadata__"]["tdtrack"])
        for _ in range(rng.choice((1, 1, 2))):
            own = spoil_tree(own, rng)
        head["__metadata__"]["tdtrack"] = json.dumps(own)
    packed = json.dumps(head).encode()
    return struct.pack("<Q", len(packed)) + packed + body


def spoil_parquet(content: bytes, rng: random.Random) -> bytes:
    """Spoil what the store says of itself, its columns, or bytes."""
    import pyarrow
    import pyarrow.parquet

    if rng.random() < 0.5:
        return spoil_bytes(content, rng)
    table = pyarrow.parquet.read_table(io.BytesIO(content))
    metadata = dict(table.schema.metadata)
    how = rng.random()
    if how < 0.6:
        key = b"tdtrack.embedding_store"
        metadata[key] = json.dumps(spoil_tree(json.loads(metadata[key]), rng)).encode()
    elif how < 0.8:
        name = rng.choice(table.column_names)
        others = (pyarrow.int64(), pyarrow.float32(), pyarrow.string(), pyarrow.list_(pyarrow.float32()), pyarrow.null())
        column = pyarrow.array([None] * len(table), rng.choice(others))
        table = table.drop_columns([name]).append_column(rng.choice((name, "other")), column)
    else:
        rows = [rng.randrange(len(table)) for _ in range(rng.choice((0, 1, 3, 10)))]
        table = table.take(pyarrow.array(rows, pyarrow.int64()))
    packed = io.BytesIO()
    pyarrow.parquet.write_table(table.replace_schema_metadata(metadata), packed)
    return packed.getvalue()


def spoil_onnx(content: bytes, rng: random.Random) -> bytes:
    """Spoil the description in the metadata, or bytes of the graph."""
    import onnx

    if rng.random() < 0.4:
        return spoil_bytes(content, rng)
    model = onnx.load_from_string(content)
    own = spoil_tree(json.loads(model.metadata_props[0].value), rng)
    model.metadata_props[0].value = json.dumps(own)
    packed: bytes = model.SerializeToString()
    return packed
