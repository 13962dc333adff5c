"""A user's mistake, told in one line that names the key, the value and what is allowed."""

from __future__ import annotations

import json
import re

LONGEST_MESSAGE = 1000
"""Characters of an error, which may quote what a file or a user's function says."""

SECRET = re.compile(
    r"(?<=://)[^\s@:]{0,500}+:[^\s@]{0,500}+(?=@)"
    r"|(?<=[?&])(?=[^=&\s]{0,50}?(?:key|password|secret|token))[^=&\s]{1,100}+=[^&\s]*",
    re.IGNORECASE,
)
"""What gives access in a URI: ``user:password@``, ``?access_token=...``."""


class ConfigurationError(ValueError):
    """A user's mistake, told in one printable line without secrets."""

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        printable = (sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in line)
        super().__init__(shortened("".join(printable), LONGEST_MESSAGE))


def refusal(key: str, value: object, allowed: str) -> ConfigurationError:
    """The error that names the key, the value and what is allowed."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return ConfigurationError(f"{shortened(key or repr(key))}={shortened(text)}: {allowed}")


def shortened(text: str, length: int = 80) -> str:
    """The text without secrets, and without its middle where it is longer than so many characters."""
    text, head = SECRET.sub("***", text), (length - 3) * 2 // 5
    return text if len(text) <= length else f"{text[:head]}...{text[head + 3 - length :]}"


def counted(count: int, noun: str, plural: str = "") -> str:
    """A number with what it counts, such as "1 trial" or "1,200 trials"; the plural is the noun with s unless given."""
    return f"{count:,} {noun if count == 1 else plural or f'{noun}s'}"
