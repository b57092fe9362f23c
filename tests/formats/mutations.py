"""Ways in which a file can come to be wrong."""

import io
import json
import random
import re
import struct
import zipfile

NUMBERS = [0, 1, -1, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64, 10**30, 0.5, 1e308, -0.0, True, None]
TEXTS = ["", "\x00", "../../etc/passwd", "/etc/passwd", "é", "a" * 3000, "__class__", "NaN", "\ud800"]
BYTES = [
    b"",
    b"\x00",
    b"\xff" * 8,
    b"\x80\x02",
    b".",
    b"cos\nsystem\n(S'true'\ntR.",
    b"PK\x03\x04",
    b"]" * 40,
    b"(" * 40,
]
OPCODES = bytes([*b"(.0123456789FIJKLMNPQRSTUVX]abcdeghijlopqrstu}", *range(0x80, 0x96)])
"""Of pickles."""


def mutate(content: bytes, dice: random.Random) -> bytes:
    """`content` with a few changes of the kinds a disk, a network or an attacker makes."""
    changed = bytearray(content)
    for _ in range(dice.choice([1, 1, 1, 2, 4, 12])):
        at = dice.randrange(len(changed) + 1)
        span = min(dice.choice([1, 1, 2, 4, 8, 64, 1000]), len(changed) - at)
        kind = dice.randrange(9)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << dice.randrange(8)
        elif kind == 1 and at < len(changed):
            changed[at] = dice.choice((0, 1, 0x7F, 0x80, 0xFF, dice.randrange(256)))
        elif kind == 2:
            del changed[at : at + span]
        elif kind == 3:
            changed[at:at] = dice.choice(BYTES)
        elif kind == 4:
            changed[at : at + span] = dice.randbytes(span)
        elif kind == 5:
            other = dice.randrange(len(changed) + 1)
            changed[at:at] = changed[other : other + span]
        elif kind == 6:
            whole = dice.choice([2**31 - 1, 2**32 - 1, 2**63 - 1, 2**40, 0])
            changed[at : at + 8] = struct.pack("<Q", whole)
        elif kind == 7:
            changed = changed[:at]
        elif at < len(changed):
            changed[at] = dice.choice(OPCODES)
    return bytes(changed)


def mutate_json(content: bytes, dice: random.Random) -> bytes:
    """JSON with a few values of other kinds in it, or broken."""
    if dice.random() < 0.3:
        return mutate(content, dice)
    value = json.loads(content)
    for _ in range(dice.choice([1, 1, 2, 5])):
        holder = value
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = dice.choice(keys)
            inner = holder[key]
            if isinstance(inner, dict | list) and inner and dice.random() < 0.8:
                holder = inner
                continue
            kind = dice.randrange(4)
            if kind == 0:
                holder[key] = dice.choice(NUMBERS)
            elif kind == 1:
                holder[key] = dice.choice(TEXTS)
            elif kind == 2 and isinstance(holder, dict):
                holder[dice.choice(TEXTS)] = holder.pop(key)
            else:
                holder[key] = dice.choice([[], {}, [[]], {"a": {}}, [None], inner, [inner, inner]])
            break
    return json.dumps(value).encode("utf-8", "surrogatepass")


def mutate_torch(content: bytes, dice: random.Random) -> bytes:
    """A `.pt` file with damage to the archive, or, checksums and all, to the pickle or a tensor in it."""
    if dice.random() < 0.25:
        return mutate(content, dice)
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as new:
        members = old.infolist()
        chosen = dice.choice([each for each in members if each.filename.endswith("data.pkl")] * 6 + members)
        for each in members:
            part = old.read(each)
            if each is chosen:
                part = _mutate_pickle(part, dice) if each.filename.endswith("data.pkl") else mutate(part, dice)
            if dice.random() < 0.003:
                each.compress_type = zipfile.ZIP_DEFLATED
            new.writestr(each.filename, part, each.compress_type)
    return made.getvalue()


def _mutate_pickle(content: bytes, dice: random.Random) -> bytes:
    """A pickle with another number, name or order in it."""
    kind = dice.randrange(3)
    if kind == 0:
        return mutate(content, dice)
    if kind == 1:  # BININT, BININT1 and BININT2 are what shapes, strides and lengths are
        at = dice.choice([match.start() for match in re.finditer(rb"[JKM]", content)] or [0])
        whole = struct.pack("<i", dice.choice([-1, 0, 1, 7, 2**31 - 1, -(2**31)]))
        return content[:at] + b"J" + whole + content[at + 5 :]
    places = [match.span() for match in re.finditer(rb"c[\w.]+\n\w+\n", content)]
    start, end = dice.choice(places or [(0, 0)])
    names = ["os system", "builtins eval", "builtins bytearray", "builtins set", "collections Counter", "torch load"]
    names += ["torch._utils _rebuild_parameter", "torch LongStorage", "torch Size"]
    module, name = dice.choice(names).split()
    return content[:start] + f"c{module}\n{name}\n".encode() + content[end:]
