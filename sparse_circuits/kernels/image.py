"""Machine code as one block of memory that runs wherever it is put: linked once, loaded with no library's help.

LLVM's own loader takes 40 MB of memory and its library's start. Kernels need no more than a linker's simplest part:

1. `link`: the sections of an ELF object side by side. Code finds data at a distance, which is known here. What the
   kernel calls of the C library it calls through a slot for its address; constants may hold addresses of others.
2. `load`: the block copied into fresh memory, slots filled, the base added to its addresses; then nothing may write it.

For Linux on x86-64 (ELF for x86-64, psABI 1.0, sections 4.4 and 4.5). What else an object might ask for is refused.
"""

import ctypes
import json
import mmap
import platform
import struct
import sys
from collections.abc import Iterator
from typing import NamedTuple

from sparse_circuits.kernels.threads import Work

_ALLOCATED, _WRITABLE = 2, 1
_PROGRAM, _RELOCATIONS, _RELOCATIONS_IN_PLACE, _SYMBOLS = 1, 4, 9, 2
_LAST_SECTION = 0xFF00
_ADDRESS, _DISTANCE, _DISTANCE_OF_CALL, _DISTANCES_OF_SLOT = 1, 2, 4, (9, 41, 42)
# jmp *slot(%rip), and two bytes that nothing reaches.
_JUMP, _STUB = b"\xff\x25", 8


class Refused(Exception):
    """This machine, or this object, is beyond what is known here."""


class Image(NamedTuple):
    """A linked kernel."""

    entry: int
    """Where its function begins."""
    imports: dict[str, int]
    """The functions of the C library it calls, and the slots for their addresses."""
    addresses: list[int]
    """Where the base is to be added."""
    block: bytes

    def encode(self) -> bytes:
        head = {"entry": self.entry, "imports": self.imports, "addresses": self.addresses}
        return json.dumps(head).encode() + b"\n" + self.block

    @classmethod
    def decode(cls, content: bytes) -> "Image":
        """Raises ValueError if `content` is no encoded image."""
        head, _, block = content.partition(b"\n")
        match json.loads(head):
            case {"entry": int(entry), "imports": dict(imports), "addresses": list(addresses)}:
                words = [*imports.values(), *addresses]
            case _:
                raise ValueError("no image of a kernel")
        inside = all(type(word) is int and 0 <= word <= len(block) - 8 for word in words)
        if not (inside and 0 <= entry < len(block)):
            raise ValueError("an image of a kernel that points outside of itself")
        return cls(entry, imports, addresses, block)


def check_machine() -> None:
    """Raises Refused where images cannot be loaded."""
    if (sys.platform, platform.machine(), struct.calcsize("P")) != ("linux", "x86_64", 8):
        raise Refused(f"images are for Linux on x86-64, this is {sys.platform} on {platform.machine()}")


class _Section(NamedTuple):
    name: str
    kind: int
    flags: int
    body: bytes
    link: int
    info: int
    align: int


class _Symbol(NamedTuple):
    name: str
    section: int
    value: int


def link(content: bytes, entry: str) -> Image:
    """The object's code and constants as an image whose function is `entry`.

    Raises:
        Refused: the object needs something that is not known here.
    """
    sections = _sections(content)
    block, places = _lay_out(sections)
    linker = _Linker(block, places)
    for section in sections:
        if section.kind in (_RELOCATIONS, _RELOCATIONS_IN_PLACE) and section.info in places:
            if section.kind == _RELOCATIONS_IN_PLACE:
                raise Refused("relocations without addends")
            symbols = list(_symbols(sections, section.link))
            for offset, what, addend in struct.iter_unpack("<QQq", section.body):
                linker.relocate(places[section.info] + offset, what & 0xFFFFFFFF, symbols[what >> 32], addend)
    table = next(number for number, section in enumerate(sections) if section.kind == _SYMBOLS)
    (start,) = [symbol for symbol in _symbols(sections, table) if symbol.name == entry]
    return Image(linker.place_of(start), linker.imports, linker.addresses, bytes(linker.block))


def _sections(content: bytes) -> list[_Section]:
    if content[:6] != b"\x7fELF\x02\x01" or struct.unpack_from("<HH", content, 16) != (1, 62):
        raise Refused("no relocatable ELF object for x86-64")
    (table,) = struct.unpack_from("<Q", content, 0x28)
    size, count, of_names = struct.unpack_from("<HHH", content, 0x3A)
    heads = [struct.unpack_from("<IIQQQQIIQQ", content, table + size * number) for number in range(count)]
    names = heads[of_names][4]
    return [
        _Section(
            name=_text(content, names + name),
            kind=kind,
            flags=flags,
            body=content[offset : offset + length],
            link=link,
            info=info,
            align=max(align, 1),
        )
        for name, kind, flags, _, offset, length, link, info, align, _ in heads
    ]


def _text(content: bytes, at: int) -> str:
    return content[at : content.index(b"\0", at)].decode()


def _symbols(sections: list[_Section], table: int) -> Iterator[_Symbol]:
    names = sections[sections[table].link].body
    for name, _, _, section, value, _ in struct.iter_unpack("<IBBHQQ", sections[table].body):
        yield _Symbol(_text(names, name), section, value)


def _lay_out(sections: list[_Section]) -> tuple[bytearray, dict[int, int]]:
    """The block, and where in it each section lies. Tables for unwinding stay behind: nothing is thrown through."""
    block, places = bytearray(), {}
    for number, section in enumerate(sections):
        if not section.flags & _ALLOCATED or not section.body or section.name == ".eh_frame":
            continue
        if section.kind != _PROGRAM or (section.flags & _WRITABLE and not section.name.startswith(".data.rel.ro")):
            raise Refused(f"the section {section.name} is not constant")
        block += bytes(-len(block) % section.align)
        places[number] = len(block)
        block += section.body
    return block, places


class _Linker:
    def __init__(self, block: bytearray, places: dict[int, int]) -> None:
        self.block, self._places = block, places
        self.imports: dict[str, int] = {}
        self.addresses: list[int] = []

    def place_of(self, symbol: _Symbol) -> int:
        if symbol.section not in self._places or symbol.section >= _LAST_SECTION:
            raise Refused(f"{symbol.name} lies outside of code and constants")
        return self._places[symbol.section] + symbol.value

    def relocate(self, at: int, kind: int, symbol: _Symbol, addend: int) -> None:
        outside = symbol.section == 0
        if kind == _ADDRESS and not outside:
            struct.pack_into("<q", self.block, at, self.place_of(symbol) + addend)
            self.addresses.append(at)
        elif kind in (_DISTANCE, _DISTANCE_OF_CALL) and not outside:
            struct.pack_into("<i", self.block, at, self.place_of(symbol) + addend - at)
        elif kind == _DISTANCE_OF_CALL:
            struct.pack_into("<i", self.block, at, self._slot(symbol.name) - _STUB + addend - at)
        elif kind in _DISTANCES_OF_SLOT and outside:
            struct.pack_into("<i", self.block, at, self._slot(symbol.name) + addend - at)
        else:
            raise Refused(f"relocation of kind {kind} against {symbol.name or 'a section'}")

    def _slot(self, name: str) -> int:
        """Where the address of an outside function will be; a jump to it lies before."""
        if name not in self.imports:
            self.block += bytes(-len(self.block) % 8)
            self.block += (_JUMP + struct.pack("<i", _STUB - 6)).ljust(_STUB, b"\xcc")
            self.imports[name] = len(self.block)
            self.block += bytes(8)
        return self.imports[name]


def load(image: Image) -> Work:
    """The image in memory, ready to be called.

    Raises:
        OSError, AttributeError: the system gives no memory for code, or lacks a function that the image calls.
    """
    memory = mmap.mmap(-1, len(image.block), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory[: len(image.block)] = image.block
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for name, slot in image.imports.items():
        struct.pack_into("<Q", memory, slot, _address_of(name))
    for at in image.addresses:
        struct.pack_into("<q", memory, at, struct.unpack_from("<q", memory, at)[0] + base)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(base), ctypes.c_size_t(len(memory)), mmap.PROT_READ | mmap.PROT_EXEC):
        raise OSError(ctypes.get_errno(), "the system gives no memory for code")
    return Work(base + image.entry, ctypes.CFUNCTYPE(None, ctypes.c_void_p)(base + image.entry), memory)


def _address_of(name: str) -> int:
    try:
        function = getattr(ctypes.CDLL(None), name)
    except AttributeError:
        function = getattr(ctypes.CDLL("libm.so.6"), name)
    return ctypes.cast(function, ctypes.c_void_p).value or 0
