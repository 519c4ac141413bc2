"""Python's names of PostgreSQL's encodings, for the names in a table of contents."""

from __future__ import annotations

import codecs
import re


def codec_of(encoding: str) -> str:
    """The codec of an encoding as PostgreSQL calls it: WIN1252, EUC_JP, UTF8 …

    UTF-8 for SQL_ASCII, which may hold anything, and for the few that Python does not know
    (https://www.postgresql.org/docs/current/multibyte.html).
    """
    name = re.sub(r"^WIN(?=[0-9])", "cp", encoding)
    name = re.sub(r"^KOI8(?=[RU])", "koi8_", name)
    try:
        return codecs.lookup(name).name
    except LookupError:
        return "utf-8"
