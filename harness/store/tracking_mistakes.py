"""What is wrong with a tracking URI, as far as it is seen without MLflow and without asking a server."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from harness.config.suggest import did_you_mean

SQLITE = "sqlite:///"
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SERVERS = ("http", "https")

_PACKAGES = {
    "psycopg2": "psycopg2-binary",
    "psycopg": "'psycopg[binary]'",
    "MySQLdb": "mysqlclient",
}
"""The package that has a driver, where it is named otherwise."""


def wrong_uri(uri: str, path: Path | None) -> str:
    """Return what is wrong with a tracking URI, with the cure, to follow the URI itself; or nothing.

    Args:
        uri: any text.
        path: of the file, where it is a sqlite URI that names one.
    """
    scheme = uri.partition(":")[0].lower() if ":" in uri else ""
    kind = scheme.partition("+")[0]
    if uri == "databricks" or kind in _plugins():
        return ""
    if scheme in ("", "file"):
        return (
            "is a folder, in which MLflow no longer keeps runs; use "
            f"sqlite:///{uri.removeprefix('file://')}/mlflow.db or the http address of a server"
        )
    if kind == "sqlite":
        return _wrong_sqlite(uri, path)
    if scheme in SERVERS:
        return _wrong_server(uri)
    if kind in DATABASES:
        return _wrong_driver(uri)
    known = [*DATABASES, *SERVERS, *_plugins()]
    return f"has an unknown scheme{did_you_mean(scheme, known)} (schemes: {', '.join(known)})"


def _wrong_sqlite(uri: str, path: Path | None) -> str:
    if path is None or path.name == ":memory:":
        return "names no file; write sqlite:/// and a path, as in sqlite:///outputs/mlflow.db"
    # os.path, since pathlib raises where a folder may not be read or a name is too long.
    if os.path.isdir(path):
        return f"is a folder; name a file in it, as in {SQLITE}{path}/mlflow.db"
    existing = next(one for one in (path, *path.parents) if os.path.exists(one))
    if existing == path and not os.path.isfile(path):
        return "is not a file; name one, as in sqlite:///outputs/mlflow.db"
    if existing != path and not os.path.isdir(existing):
        return f"cannot be made: {existing} is not a folder; name another file"
    if not os.access(existing, os.R_OK | os.W_OK):
        return f"cannot be written: {existing} is not writable; name another file"
    return ""


def _wrong_server(uri: str) -> str:
    cure = "write it as http://HOST:PORT"
    try:
        address = urlsplit(uri)
        host, _ = address.hostname, address.port
    except ValueError as error:
        return f"is not an address ({error}); {cure}"
    if not host:
        return f"names no host; {cure}"
    if address.query or address.fragment:
        return (
            f"has a part after `{'?' if address.query else '#'}`, which no MLflow server reads; leave it "
            "out (MLFLOW_TRACKING_TOKEN takes a token)"
        )
    return ""


def _wrong_driver(uri: str) -> str:
    # Imported for the URI of a database server only.
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError

    try:
        make_url(uri).get_dialect().import_dbapi()
    except NoSuchModuleError:
        return "names a driver that SQLAlchemy does not know; leave out what follows the +"
    except (ArgumentError, ValueError):
        return "is not an address of a database; write it as DATABASE://USER@HOST:PORT/NAME"
    except ImportError as error:
        driver = error.name or "its driver"
        return f"needs the driver {driver}; `pip install {_PACKAGES.get(driver, driver)}` installs it"
    return ""


def _plugins() -> tuple[str, ...]:
    """Schemes beyond MLflow's databases and servers: Databricks, and those of installed plugins."""
    from importlib.metadata import entry_points

    return ("databricks", *(one.name for one in entry_points(group="mlflow.tracking_store")))
