"""The errors: one family, with remedies, that can be pickled between processes."""

import pickle
import re

import pytest
from tblib.pickling_support import pickle_exception

from flows import errors
from flows.errors import MigrationError, Refused, SettingsError

FAMILY = sorted(
    (
        found
        for found in vars(errors).values()
        if isinstance(found, type) and issubclass(found, MigrationError)
    ),
    key=lambda found: found.__name__,
)


@pytest.mark.parametrize("kind", FAMILY)
def test_an_error_survives_pickling(kind: type[MigrationError]) -> None:
    """A worker's error must arrive whole: its class, message, remedy and code."""
    error = kind("PORT is 0.", "Set PORT to 4000.")

    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - just made here

    assert type(copy) is kind
    assert (copy.message, copy.remedy) == ("PORT is 0.", "Set PORT to 4000.")
    assert str(copy) == str(error)
    assert (copy.code, copy.exit_code) == (kind.__name__, kind.exit_code)


def test_an_error_travels_alone() -> None:
    """The cause of an error may quote a password: it must not be pickled with it.

    If Dask is loaded, tblib pickles errors with their causes.
    """
    try:
        try:
            int("s3cret")
        except ValueError:
            raise SettingsError("PORT is no number.", "Set it.") from None
    except SettingsError as error:
        sent = pickle.dumps(pickle_exception(error.with_traceback(None)))

    assert b"PORT is no number." in sent
    assert b"s3cret" not in sent


def test_the_text_has_message_and_remedy() -> None:
    """The text must state the problem, and then the remedy, each on its own line."""
    assert str(SettingsError("PORT is 0.", "Set it.")) == "PORT is 0.\nSet it."
    assert str(SettingsError("PORT is 0.")) == "PORT is 0."


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        *((kind, 2) for kind in (Refused, *Refused.__subclasses__())),
        (errors.Unproven, 3),
        (errors.Incomplete, 4),
        (errors.SourceLost, 4),
    ],
)
def test_the_class_decides_the_exit_code(kind: type[MigrationError], code: int) -> None:
    """Refused must end with 2, unproven with 3 and incomplete with 4, as documented."""
    assert kind("message").exit_code == code


def test_the_docstring_draws_the_whole_family() -> None:
    """The tree at the top of the module must name each of its classes."""
    drawn = set(re.findall(r"[─ ] ([A-Z]\w+)", errors.__doc__ or ""))

    assert {kind.__name__ for kind in FAMILY} <= drawn | {"MigrationError"}


def test_an_error_travels_without_what_led_to_it() -> None:
    """tblib, which Dask loads, pickles contexts: they may quote a secret."""
    from tblib import pickling_support

    pickling_support.install()
    try:
        try:
            int("kanarienvogel")
        except ValueError:
            raise SettingsError("PORT is 0.") from None
    except SettingsError as caught:
        caught.report = "kanarienvogel"
        sent = pickle.dumps(caught)

    assert b"kanarienvogel" not in sent
