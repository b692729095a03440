"""Writes png_vectors.hpp: pictures that zlib packed, with what they hold. Run it by hand.

python runtimes/native/tests/make_png_vectors.py >runtimes/native/tests/png_vectors.hpp
"""

from __future__ import annotations

import struct
import sys
import zlib

SIZE = (29, 23)  # width, height: large enough that zlib makes codes of its own


def pixels() -> list[bytes]:
    """Rows that every filter has something to do with: ramps, a flat part, noise."""
    rows, state = [], 1
    for y in range(SIZE[1]):
        row = bytearray()
        for x in range(SIZE[0] * 3):
            state = state * 1103515245 + 12345 & 0x7FFFFFFF
            row.append(((x * 7 + y * 13) & 255, 200, state >> 16 & 7)[(y + x // 12) % 3])
        rows.append(bytes(row))
    return rows


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def filtered(rows: list[bytes], kinds: list[int]) -> bytes:
    """The rows, each behind the number of its filter."""
    out, above = b"", bytes(len(rows[0]))
    for row, kind in zip(rows, kinds, strict=True):
        line = bytearray()
        for i, value in enumerate(row):
            left, up, corner = (row[i - 3], above[i], above[i - 3]) if i >= 3 else (0, above[i], 0)
            nearest = min((left, up, corner), key=lambda v: abs(left + up - corner - v))
            line.append(value - (0, left, up, (left + up) // 2, nearest)[kind] & 255)
        out += bytes([kind]) + line
        above = row
    return out


def png(packed: bytes) -> bytes:
    """A PNG with the data in two pieces and something that readers skip."""
    header = struct.pack(">IIBBBBB", *SIZE, 8, 2, 0, 0, 0)
    parts = [packed[: len(packed) // 2], packed[len(packed) // 2 :]]
    data = b"".join(chunk(b"IDAT", part) for part in parts)
    begin = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"tEXt", b"a\0b")
    return begin + data + chunk(b"IEND", b"")


def packed(data: bytes, level: int, strategy: int) -> bytes:
    """A zlib stream."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, 15, 8, strategy)
    return compressor.compress(data) + compressor.flush()


def literal(name: str, data: bytes) -> str:
    """The bytes as C++."""
    lines = [data[i : i + 19].hex(" ") for i in range(0, len(data), 19)]
    body = "\n".join("    " + ", ".join(f"0x{byte}" for byte in line.split()) + "," for line in lines)
    return f"inline const std::vector<std::uint8_t> {name}{{\n{body}\n}};\n"


rows = pixels()
mixed = filtered(rows, [y * 7 // 3 % 5 for y in range(SIZE[1])])
vectors = {
    "vector_pixels": b"".join(rows),
    "vector_dynamic": png(packed(mixed, 9, zlib.Z_DEFAULT_STRATEGY)),
    "vector_fixed": png(packed(mixed, 6, zlib.Z_FIXED)),
    "vector_stored": png(packed(filtered(rows, [4] * SIZE[1]), 0, zlib.Z_DEFAULT_STRATEGY)),
    "vector_huffman": png(packed(filtered(rows, [3] * SIZE[1]), 6, zlib.Z_HUFFMAN_ONLY)),
}
sys.stdout.write("#pragma once\n// Made by make_png_vectors.py.\n\n#include <cstdint>\n#include <vector>\n\n")
sys.stdout.write("\n".join(literal(name, data) for name, data in vectors.items()))
