"""Mails that no standard allows, by name: wrong headers, words, addresses, types, nesting and files."""

import base64
import random
import struct
from collections.abc import Iterator

_CHANCE = random.Random(7)
_CRLF = b"\r\n"


def broken_mails() -> Iterator[tuple[str, bytes]]:
    """All of them. Those whose name begins with `case` have it as their subject."""
    yield from _bare()
    yield from _headers()
    yield from _words()
    yield from _addresses()
    yield from _types()
    yield from _texts()
    yield from _nested()
    yield from _winmail()


def _case(name: str, more: bytes = b"", body: bytes = b"hello\r\n") -> tuple[str, bytes]:
    head = b"From: a@example.org\r\nSubject: case %s\r\n" % name.encode()
    return f"case {name}", head + more + _CRLF + body


def _bare() -> Iterator[tuple[str, bytes]]:
    """Nothing, or next to nothing."""
    bare = [
        b"",
        b"\n",
        b"\r\n",
        b"\0" * 50,
        b"   ",
        b".\r\n",
        b"\r\n\r\nbody",
        b"Subject: x",
        b":\r\n:\r\n\r\n:",
    ]
    noise = _CHANCE.randbytes(60_000)
    bare += [bytes(range(256)) * 40, noise, _CRLF.join(noise[at : at + 60] for at in range(0, 60_000, 60))]
    bare += [
        b"From a@b Mon Jan  1\r\nFrom here\r\n>From there",
        b" folded: at start\r\n\r\nx",
        b"a\rb\nc\r\n\n\r\rd",
    ]
    for number, raw in enumerate(bare):
        yield f"bare {number}", raw


def _headers() -> Iterator[tuple[str, bytes]]:
    odd = {
        "nul": b"X: a\0b\r\n\0: x\r\n",
        "controls": b"X: a\x0b\x0cb\r\n\x0c\r\n",
        "folds without end": b"X: " + b"a\r\n " * 50_000 + _CRLF,
        "five megabytes": b"X: " + b"y" * 5_000_000 + _CRLF,
        "a million lines": b"X: y\r\n" * 830_000,
        "twice": b"Subject: second\r\nSubject: third\r\n",
        "no colon": b"this is no header\r\n",
        "a blank before the colon": b"To : x@y.z\r\n",
        "no name": b": empty\r\n  :x\r\n",
        "names of 8 bits": b"X-\xff\xfe: y\r\n",
        "a long name": b"N" * 100_000 + b": v\r\n",
    }
    yield from (_case(name, more) for name, more in odd.items())
    for number, date in enumerate(
        [
            b"",
            b"x",
            b"Tue, 31 Feb 2025 25:61:61 +9999",
            b"1 Jan 1",
            b"9" * 3000,
            b"(" * 500,
            b"\xff",
            b"1 Jul -5",
        ]
    ):
        yield _case(f"date {number}", b"Date: " + date + _CRLF)


def _words() -> Iterator[tuple[str, bytes]]:
    wrong = [
        b"=?utf-8?B?",
        b"=?utf-8?B?!!!!?=",
        b"=?utf-8?Q?=ZZ=4?=",
        b"=?x-none?B?aGk=?=",
        b"=?utf-8?X?aGk=?=",
        b"=?utf-16?B?//5hAGI=?=",
        b"=?iso-2022-jp?B?GyRC?=",
        b"=?utf-8?B?" + b"QQ" * 40_000 + b"?=",
        b"=?" * 50_000,
        b"=?utf-8?B?gICAgA==?=",
        b"=?rot13?Q?uryyb?=",
        b"=?zlib?B?eJzLSM3JyQcABiwCFQ==?=",
        b"=?idna?Q?xn--?=",
        b"=?utf-8?B?" + base64.b64encode(b"\xed\xa0\x80 lone \0") + b"?=",
        b"=?utf-8?Q?" + b"=41" * 30_000 + b"?=",
        b"".join(b" =?utf-8?B?5L2g?=\r\n" for _ in range(5_000)),
        b"s" * 5_000_000,
        b"one\rTo: two",
        b"ca\0se",
    ]
    for number, word in enumerate(wrong):
        yield f"word {number}", b"From: a@b.c\r\nSubject: " + word + b"\r\n\r\nbody"


def _addresses() -> Iterator[tuple[str, bytes]]:
    wrong = [
        b"<>",
        b"<<<<>>>>",
        b"(" * 20_000,
        b'"' + b"x" * 50_000,
        b"a@b" * 20_000,
        b"," * 30_000,
        b"group:;",
        b"\xff\xfe <a@b.c>",
        b"a@[127.0.0.1]",
        b"a" * 5_000 + b"@b.c",
        b'"a\\"b" <a@b.c> (c(d(e',
        b"<a@b.c",
        b"@@@",
        b'"' + b"\\\\" * 20_000 + b'" <a@b.c>',
    ]
    for number, sender in enumerate(wrong):
        yield f"from {number}", b"From: " + sender + b"\r\nSubject: x\r\n\r\nx"


def _types() -> Iterator[tuple[str, bytes]]:
    types = [
        b"",
        b";",
        b"text",
        b"/plain",
        b"text/plain; charset",
        b'text/plain; charset="',
        b"text/plain; charset=\xff",
        b"text/plain; " + b"a=b; " * 20_000,
        b"text/html; charset=utf-16",
        b"multipart/mixed",
        b'multipart/mixed; boundary=""',
        b"multipart/mixed; boundary=" + b"b" * 5_000,
        b"message/rfc822",
        b"message/partial; id=x; number=1",
        b"image/png; name*0=a; name*2=c; name*9999999999=z",
        b"application/ms-tnef; name=winmail.dat",
        b"multipart/encrypted; boundary=b",
    ]
    for number, kind in enumerate(types):
        yield _case(f"type {number}", b"Content-Type: " + kind + _CRLF)
    coded = b"=\r\n==41=4=zz\r\naGVsbG8=!!!!\r\n" + b"=" * 10_000
    for number, coding in enumerate(
        [b"base64", b"quoted-printable", b"x-uuencode", b"BASE64 x", b"", b"gzip"]
    ):
        yield _case(f"coding {number}", b"Content-Transfer-Encoding: " + coding + _CRLF, coded)
    shifted = b"\x1b$B\x1b(B~{<:Ky2;~}+ACE-\xff\xfe\0a\0b\x80\xa1" * 500
    for charset in (
        "utf-32",
        "utf-7",
        "hz",
        "iso-2022-kr",
        "iso-2022-jp-3",
        "punycode",
        "bz2",
        "hex",
        "viscii",
        "cp65001",
    ):
        yield _case(
            f"charset {charset}", f"Content-Type: text/plain; charset={charset}\r\n".encode(), shifted
        )
    files = [b"../../x", b"\xff", b"a\0b", b'"' + b"n" * 20_000 + b'"', b"\xe2\x80\xaefdp.exe", b"a\r\n b"]
    for number, name in enumerate(files):
        part = b"--b\r\nContent-Disposition: attachment; filename=" + name + b"\r\n\r\nx\r\n--b--"
        yield _case(f"file {number}", b"Content-Type: multipart/mixed; boundary=b\r\n", part)


def _texts() -> Iterator[tuple[str, bytes]]:
    """Bodies at which a search for codes, or what strips markup, could take long."""
    html = {
        "divs": b"<div>" * 200_000,
        "open tags": b"<a " * 300_000,
        "brackets": b"<" * 2_000_000,
        "comments": b"<!--" * 400_000,
        "entities": b"&#x;&#99999999999;&amp" * 50_000,
        "styles": b"<style>" * 200_000,
    }
    yield from (_case(f"html {name}", b"Content-Type: text/html\r\n", body) for name, body in html.items())
    plain = {
        "digits apart": b"1 " * 1_000_000,
        "digits": b"1" * 2_000_000,
        "dashes": b"4-8-" * 300_000,
        "names of codes": b"verification code " * 60_000,
        "letters": b"A1" * 500_000,
        "addresses": b"a.b@" * 300_000,
        "links": b"http://" * 200_000,
        "blanks": b" " * 2_000_000,
        "cells": b"4\n" * 500_000,
        "joined letters": "\ufdfa".encode() * 60_000,
        "accents": "e\u0301\u0302".encode() * 150_000,
    }
    yield from (_case(f"text {name}", b"", body) for name, body in plain.items())


def _nested() -> Iterator[tuple[str, bytes]]:
    for depth in (30, 1_000, 20_000):
        raw = b"Subject: case depth %d\r\n" % depth
        for level in range(depth):
            raw += b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level)
        yield f"case depth {depth}", raw + b"\r\ndeep text\r\n"
    mixed = b"Content-Type: multipart/mixed; boundary=b\r\n"
    same = b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    yield _case("one boundary for all", mixed, same * 5_000)
    yield _case("parts", mixed, b"--b\r\n\r\nx\r\n" * 100_000)
    yield _case("empty parts", mixed, b"--b\r\n" * 100_000)
    yield _case("almost the boundary", mixed, b"--bb\r\n" * 100_000 + b"--b\r\n\r\nx")
    yield _case("a long preamble", mixed, b"p\r\n" * 200_000 + b"--b\r\n\r\nx\r\n--b--\r\n")
    yield _case("mails in mails", b"Content-Type: message/rfc822\r\n\r\n" * 1_000)
    a_file = (
        b"--b\r\nContent-Type: application/pdf; name=f.pdf\r\nContent-Disposition: attachment\r\n\r\nx\r\n"
    )
    yield _case("files", mixed, a_file * 5_000)
    yield _case("headers of parts", mixed, (b"--b\r\n" + b"X: y\r\n" * 40_000 + b"\r\nx\r\n") * 20)


def _winmail() -> Iterator[tuple[str, bytes]]:
    begin, head = (
        struct.pack("<IH", 0x223E9F78, 1),
        b"Content-Type: application/ms-tnef; name=winmail.dat\r\n",
    )
    head += b"Content-Transfer-Encoding: base64\r\n"
    file = struct.pack("<BII", 2, 0x00069002, 14) + b"\0" * 16
    packed = {
        "nothing": b"",
        "a huge length": struct.pack("<BII", 1, 0x0002800C, 0xFFFFFFF0) + b"x",
        "a huge count": struct.pack("<BIII", 1, 0x00069003, 200_004, 0xFFFFFFFF) + b"\0" * 200_002,
        "noise": _CHANCE.randbytes(200_000),
        "files": file * 100_000,
    }
    for name, data in packed.items():
        yield _case(f"winmail {name}", head, base64.encodebytes(begin + data))
