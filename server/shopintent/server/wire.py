"""The little of protobuf's wire format that is written by hand where messages are too slow.

The fields of a message may come in any order and be put together from parts, so bytes that are
often the same are serialized once and joined with what differs.
"""

from __future__ import annotations

VARINT, LENGTH_DELIMITED, FIXED_32 = 0, 2, 5


def tag(field_number: int, wire_type: int) -> bytes:
    """Returns what stands before a field."""
    return varint(field_number << 3 | wire_type)


def varint(number: int) -> bytes:
    """Returns a number that is not negative, seven bits a byte, lowest first."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)
