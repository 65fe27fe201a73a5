"""What a log must hold, worked out byte by byte and independently of `logs/`."""

import json
from dataclasses import dataclass

PIECE = 16384


@dataclass(frozen=True)
class Record:
    """One record: a line, or a piece of one that has no newline."""

    stream: str
    text: bytes
    time_ns: int


def utf8_length(lead):
    return 1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


def pieces(data):
    """Split a stream into records as Docker does, but never inside of a character."""
    made, line = [], bytearray()
    for byte in data:
        line.append(byte)
        if byte == 0x0A:
            made.append(bytes(line))
            line.clear()
        elif len(line) == PIECE:
            cut = PIECE
            for back in range(1, 4):
                lead = line[-back]
                if lead & 0xC0 != 0x80:
                    if lead >= 0xC0 and utf8_length(lead) > back:
                        cut = PIECE - back
                    break
            made.append(bytes(line[:cut]))
            del line[:cut]
    if line:
        made.append(bytes(line))
    return made


def characters(text):
    """(bytes, valid) for each character, or each single byte that belongs to none, as Go reads."""
    at = 0
    while at < len(text):
        for size in range(1, 5):
            try:
                text[at : at + size].decode("utf-8")
            except UnicodeDecodeError:
                continue
            yield text[at : at + size], True
            at += size
            break
        else:
            yield text[at : at + 1], False
            at += 1


def json_string(text):
    out = bytearray()
    for raw, valid in characters(text):
        if not valid:
            out += b"\\ufffd"
        elif raw in (b'"', b"\\"):
            out += b"\\" + raw
        elif raw == b"\n":
            out += b"\\n"
        elif raw == b"\r":
            out += b"\\r"
        elif raw[0] < 0x20 or raw in (b"<", b">", b"&"):
            out += b"\\u00" + f"{raw[0]:02x}".encode()
        elif raw.decode() in "\u2028\u2029":
            out += b"\\u" + f"{ord(raw.decode()):04x}".encode()
        else:
            out += raw
    return bytes(out)


def go_time(time_ns):
    """RFC3339Nano as Go prints it; only for times in the first hour of 2026-11-21, UTC."""
    seconds, rest = divmod(time_ns - MIDNIGHT, 10**9)
    assert 0 <= seconds < 3600
    text = f"2026-11-21T00:{seconds // 60:02}:{seconds % 60:02}"
    return (f"{text}.{rest:09}".rstrip("0") if rest else text) + "Z"


def long_time(time_ns):
    text = go_time(time_ns)[:-1]
    return text[:19] + "." + text[20:].ljust(9, "0") + "Z"


MIDNIGHT = 1795219200 * 10**9


def json_line(record):
    return (
        b'{"log":"'
        + json_string(record.text)
        + f'","stream":"{record.stream}","time":"{go_time(record.time_ns)}"}}\n'.encode()
    )


def k8s_line(record):
    flag = "F" if record.text.endswith(b"\n") else "P"
    head = f"{long_time(record.time_ns)} {record.stream} {flag} ".encode()
    return head + record.text.removesuffix(b"\n") + b"\n"


def json_text(record):
    """What a reader makes of a `json-file` record."""
    return json.loads(b'"' + json_string(record.text) + b'"').encode()


LINE = {"json-file": json_line, "k8s-file": k8s_line}
TEXT = {"json-file": json_text, "k8s-file": lambda record: record.text}
