"""Reading a mapping file, with all of its faults in one error."""

import re
import tomllib
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from flows.errors import SettingsError
from flows.mapping.entity_faults import find_faults
from flows.mapping.form_faults import Fault, in_order, read_entity
from flows.mapping.model import Mapping

if TYPE_CHECKING:
    from flows.settings import Settings

_CHECK = "Correct the mapping file, and check it with: enterprises mapping check"
_NAME = (
    "Set MAPPING_FILE or --mapping to a mapping file, or write one with: enterprises"
    " mapping init --output FILE"
)
_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_NO_ENTITY = (
    "the file has no entity; add one, e.g. [enterprise] with table, id, partition_key"
    " and sort_key"
)


def load_mapping(settings: "Settings") -> Mapping | None:
    """Return the mapping of ``MAPPING_FILE``; None if that is not set.

    Raises:
        SettingsError: the file cannot be read, or has faults.
    """
    path = settings.mapping_file
    return None if path is None else read_mapping(path)


def read_mapping(path: Path) -> Mapping:
    """Read a mapping file.

    Raises:
        SettingsError: the file cannot be read, or has faults. The message has one line
            for each fault.
    """
    file = str(path)
    data = _parse(file, _read(path))
    faults = [] if data else [Fault((), _NO_ENTITY)]
    entities = {}
    for name, table in data.items():
        entity, found = read_entity(name, table)
        faults += found
        if entity is not None:
            entities[name] = entity
    faults += find_faults(entities, data)
    if faults:
        _refuse(fault.describe(file) for fault in in_order(faults, data))
    return Mapping(entities=entities, path=file)


def _read(path: Path) -> str:
    """Return the text of a file, without the byte order mark of some editors."""
    try:
        # A pipe can be read only once, and each worker reads the file.
        if path.exists() and not path.is_file():
            what = "a folder" if path.is_dir() else "not a regular file"
            _refuse([f"{path}: it is {what}; name a file"], _NAME)
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = f"the byte 0x{error.object[error.start]:02x} is not UTF-8"
        _refuse([f"{path}: line {line}: {byte}; save the file as UTF-8"])
    except FileNotFoundError:
        _refuse([f"{path}: there is no such file; name one that exists"], _NAME)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        _refuse([f"{path}: it cannot be read ({reason}); name another file"], _NAME)


def _parse(file: str, text: str) -> dict[str, Any]:
    try:
        # Decimals keep all digits of a bound.
        return tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        _refuse([f"{file}: {_describe_syntax(str(error), text)}"])
    except RecursionError:
        _refuse([f"{file}: lists or tables are nested too deeply; flatten them"])
    except (ValueError, ArithmeticError):
        _refuse([f"{file}: a number has too many digits; shorten it"])


def _describe_syntax(reason: str, text: str) -> str:
    """Return where the syntax of TOML is wrong, and why.

    The line itself is not shown: the file may be another one, with secrets.
    """
    found = _PLACE.search(reason)
    last = text.removesuffix("\n").split("\n")
    place = f"line {len(last)}, column {len(last[-1]) + 1}"
    if found and found[1]:
        place = f"line {found[1]}, column {found[2]}"
    what = _PLACE.sub("", reason)
    return f"{place}: {what[:1].lower()}{what[1:]}; correct the TOML"


def _refuse(lines: Iterable[str], remedy: str = _CHECK) -> NoReturn:
    raise SettingsError("\n".join(lines), remedy) from None
