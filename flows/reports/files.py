"""Files of a run: reports, differences, quarantine and the map of ids."""

import json
import re
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from flows.reports.rendering import render_html, render_markdown

# Text that a spreadsheet takes for a formula, including full-width signs. Some skip
# leading blanks, separators and invisible marks.
_FORMULA = re.compile(
    r"[\t\r\n]|[\s;,\x00\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]*"
    r"[=+@\uff1d\uff0b\uff0d\uff20-]"
)
_INTEGER = re.compile(r"-?[0-9]+")


def paths_in(directory: Path) -> dict[str, Path]:
    """Return the paths of a report's renderings."""
    return {
        "report": directory / "report.html",
        "report_json": directory / "report.json",
        "report_markdown": directory / "report.md",
    }


def write_renderings(
    report: Any, paths: Mapping[str, Path], found: Any, **parts: Any
) -> None:
    """Write a report as JSON, HTML and Markdown; see ``render_html`` for arguments.

    The JSON is written first: the others show the digest of its file.
    """
    write_json(report.asdict(), paths["report_json"])
    fingerprint = sha256(paths["report_json"].read_bytes()).hexdigest()
    files = _find_beside(report.files or {}, paths["report"])
    page = render_html(report, found, fingerprint=fingerprint, files=files, **parts)
    paths["report"].write_text(page, "utf-8", "backslashreplace")
    text = render_markdown(report, fingerprint)
    paths["report_markdown"].write_text(text, "utf-8", "backslashreplace")


def _find_beside(files: Mapping[str, str | None], page: Path) -> dict[str, str]:
    """Return the addresses of files in the page's folder, so that it can be moved."""
    folder, found = page.parent.absolute(), dict[str, str]()
    for path in (Path(name).absolute() for name in files.values() if name):
        if path != page.absolute() and path.is_relative_to(folder):
            name = path.relative_to(folder).as_posix()
            found[name] = quote(name)
    return found


def write_differences(frame: pd.DataFrame, directory: Path) -> dict[str, str]:
    """Write all differences as Parquet and CSV; return the files' paths."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    parquet, csv = directory / "differences.parquet", directory / "differences.csv"
    columns = {name: pa.array(map(_text, frame[name]), pa.string()) for name in frame}
    _write_parquet(pa.table(columns), parquet)
    _write_csv(frame, csv)
    return {"differences": str(parquet), "differences_csv": str(csv)}


def write_quarantine(rows: pd.DataFrame, directory: Path) -> dict[str, str]:
    """Write the quarantined rows as CSV and Parquet; return the files' paths."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    csv, parquet = directory / "quarantine.csv", directory / "quarantine.parquet"
    _write_csv(rows, csv)
    columns = {name: pa.array(map(_text, rows[name]), pa.string()) for name in rows}
    _write_parquet(pa.table(columns), parquet)
    return {"quarantine": str(csv), "quarantine_parquet": str(parquet)}


def write_id_map(manifests: Iterable[tuple[pa.Table, Any]], path: Path) -> str:
    """Write the id of each source id as Parquet, as ``source_id`` and ``id``."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    schema = pa.schema([("source_id", pa.string()), ("id", pa.string())])
    with path.open("wb") as file, pq.ParquetWriter(file, schema) as writer:
        for manifest, _ in manifests:
            writer.write_table(manifest.select(["source_id", "id"]))
    return str(path)


def _write_parquet(table: pa.Table, path: Path) -> None:
    # Arrow would expand a ~ in the path, and take x: for a file system.
    with path.open("wb") as file:
        pq.write_table(table, file)


def render_csv(frame: pd.DataFrame) -> str:
    """Return texts as PostgreSQL's CSV: NULL is an empty field, "" an empty text.

    pandas is not used, since it would turn None into NaN. Text that a spreadsheet would
    take for a formula is prefixed with an apostrophe; integers are not, so that ids
    stay exact.
    """
    rows = frame.itertuples(index=False)
    lines = [",".join(frame.columns)]
    lines += [",".join(_csv_field(_text(value)) for value in row) for row in rows]
    return "\n".join(lines) + "\n"


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    path.write_text(render_csv(frame), "utf-8", newline="")


def _csv_field(text: str | None) -> str:
    if text is None:
        return ""
    if _FORMULA.match(text) and not _INTEGER.fullmatch(text):
        text = f"'{text}"
    return '"' + text.replace('"', '""') + '"'


def _text(value: object) -> str | None:
    # DynamoDB can hold a lone surrogate, but a UTF-8 file cannot.
    text = str(value).encode("utf-8", "backslashreplace").decode()
    return None if value is None else text


def write_json(values: Mapping[str, Any], path: Path) -> None:
    """Write plain values as JSON."""
    # A difference may contain a lone surrogate, which json escapes and orjson refuses.
    path.write_text(json.dumps(values, indent=2, default=str), "utf-8")
