"""Making a stranger's text inert: for terminals and logs, for spreadsheets, for file names."""

import re
import unicodedata

ANSI = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-_])?")
# Marks that turn the direction of the text around them, or are not seen: they make one name look like
# another.
HIDDEN = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")


def clean(text: str) -> str:
    """Without escape sequences, control characters other than line breaks and tabs, and marks that nobody
    sees."""
    text = HIDDEN.sub("", ANSI.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))


def one_line(text: str, most: int = 100) -> str:
    text = " ".join(clean(text[: 10 * most]).split())
    return text if len(text) <= most else text[: most - 1] + "…"


def cell(value: object) -> str:
    """A value for a spreadsheet: text that one would take for a formula gets an apostrophe in front."""
    if not isinstance(value, str):
        return "" if value is None else str(value)
    value = one_line(value, 1000)
    return "'" + value if value[:1] in ("=", "+", "-", "@", "\t") else value


def file_name(name: str) -> str:
    """A name that is one plain file everywhere."""
    plain = unicodedata.normalize("NFKC", clean(name))
    plain = re.sub(r"[^\w.@+-]+", "_", plain).strip("._-")[:80]
    reserved = re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", plain)
    return f"_{plain}" if reserved or not plain else plain
