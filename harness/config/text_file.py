"""Text that a config names or holds: UTF-8, or a mistake that says where it is not."""

from __future__ import annotations

import re

from harness.config.suggest import similar_path
from harness.config.user_path import user_path
from harness.errors import ConfigError

AS_UTF8 = "write it in UTF-8, and rename a file that is not named so"
"""What to do with a value that `not_unicode` finds something in."""

_LINE_END = re.compile(rb"\r\n|\r|\n")
_SURROGATE = re.compile("[\ud800-\udfff]")


def read_text(name: str, key: str) -> str:
    """Return the content of a UTF-8 file, without a byte order mark at its beginning.

    Args:
        name: the file, as the config names it.
        key: the key that names it.

    Raises:
        ConfigError: it cannot be read, or is in another encoding, such as UTF-16 with or without its mark.
    """
    path = user_path(key, name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigError.of(key, f"{name} cannot be read: {error.strerror}{similar_path(name)}") from None
    try:
        text = data.decode("utf-8-sig")
        at, found = data.find(b"\0"), "a NUL, as in UTF-16 or UTF-32"
    except UnicodeDecodeError as error:
        at, found, text = error.start, f"byte 0x{data[error.start]:02x}", ""
    if at >= 0:
        line = len(_LINE_END.findall(data, 0, at)) + 1
        raise ConfigError.of(f"{name}:{line}", f"is not UTF-8 ({found}); save the file as UTF-8")
    return text


def not_unicode(text: str) -> str | None:
    """Return what of a text is no Unicode, `byte 0xff` or `lone surrogate U+D800`; None where all of it is.

    Such texts come from escapes in JSON and YAML, and from bytes on the command line that are not UTF-8.
    """
    found = _SURROGATE.search(text)
    if found is None:
        return None
    code = ord(found.group())
    return f"byte 0x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"lone surrogate U+{code:04X}"
