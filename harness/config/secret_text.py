"""Passwords and tokens in addresses: replaced wherever an address is written, shown or sent."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
"""What stands in place of a secret."""

_ADDRESS = re.compile(r"(?i)([a-z][\w+.-]*://)([^\s<>]+)")
# SQLAlchemy reads a password up to the last @, whatever is in it.
_USER = re.compile(r"[^:/@]*(:.*)?@")
_SECRET_PARAMETER = re.compile(
    r"(?i)([?&;][\w.-]*(?:token|pass|pwd|secret|key|auth|sig|cred)[\w.-]*=)[^&;\s'\"]+"
)


def safe_address(address: str) -> str:
    """Return an address with `***` for its user and password, and for the secrets in its query.

    Whatever stands before an `@` is taken for them, so that rather too much is hidden than too little. The
    path of a sqlite file has none.
    """
    scheme, separator, rest = address.partition("://")
    if not separator or scheme.lower().startswith("sqlite"):
        return address
    rest = _USER.sub(f"{HIDDEN}@", rest, count=1) if _USER.match(rest) else rest
    return f"{scheme}://" + _SECRET_PARAMETER.sub(rf"\1{HIDDEN}", rest)


def bare_address(address: str) -> str:
    """Return an address without user, password and query, as a link that anybody may see."""
    return safe_address(address).replace(f"{HIDDEN}@", "", 1).partition("?")[0]


def without_secrets(text: str) -> str:
    """Return a text with every address in it made safe, and the tracking URI of the environment."""
    secret = os.environ.get("MLFLOW_TRACKING_URI", "")
    if secret and secret != safe_address(secret):
        text = text.replace(secret, safe_address(secret))
    if "://" not in text:
        return text
    return _ADDRESS.sub(lambda found: safe_address(found[0]), text)


def hide_secrets(config: Any) -> Any:
    """Return plain data of a config with all of its texts made safe."""
    if isinstance(config, str):
        return without_secrets(config)
    if isinstance(config, Mapping):
        return {key: hide_secrets(value) for key, value in config.items()}
    return [hide_secrets(value) for value in config] if isinstance(config, list | tuple) else config
