"""Texts that this program may replace: its own, as it wrote them."""

import hashlib
import os

import pytest

from tsa_fairseq.files.signed import is_signed, signed

TEXT = "<p>Überall\r\n\u2028</p>\n"


def test_the_last_line_has_the_texts_checksum(tmp_path):
    text = signed(TEXT)
    checksum = hashlib.sha256(TEXT.encode("utf-8")).hexdigest()
    assert text == f"{TEXT}<!-- tsa-fairseq {checksum} -->\n"
    path = tmp_path / "x"
    path.write_bytes(text.encode("utf-8"))
    assert is_signed(str(path))
    # one that holds another one is signed as a whole
    path.write_bytes(signed(text).encode("utf-8"))
    assert is_signed(str(path))


CHANGED = {
    "a letter": lambda text: text.replace("ber", "bar"),
    "the ends of lines": lambda text: text.replace("\r\n", "\n"),
    "something behind it": lambda text: f"{text}\n",
    "something before it": lambda text: f" {text}",
    "the signature": lambda text: text.replace("tsa-fairseq ", "tsa-fairseq 0"),
    "no signature": lambda _: TEXT,
    "nothing but a signature": lambda text: text.removeprefix(TEXT),
    "nothing": lambda _: "",
}


@pytest.mark.parametrize("how", CHANGED)
def test_what_was_changed(how, tmp_path):
    path = tmp_path / "x"
    path.write_bytes(CHANGED[how](signed(TEXT)).encode("utf-8"))
    assert not is_signed(str(path))


def test_what_is_no_text(tmp_path):
    path = tmp_path / "x"
    assert not is_signed(str(path)) and not is_signed(str(tmp_path))
    path.write_bytes(b"\xff" + signed(TEXT).encode("utf-8"))
    assert not is_signed(str(path))
    (tmp_path / "y").write_bytes(signed(TEXT).encode("utf-8"))
    (tmp_path / "link").symlink_to("y")
    assert not is_signed(str(tmp_path / "link"))  # what it points at may be wanted there
    os.mkfifo(tmp_path / "pipe")
    assert not is_signed(str(tmp_path / "pipe"))  # which would be waited for
