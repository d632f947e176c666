"""How a command ends: its exit code and its final messages."""

import logging
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn, TextIO

import typer
from typer.core import TyperGroup

from flows.cli.options import override
from flows.cli.output import begin_output, discard, print_json, say, show
from flows.cli.progress import is_watched
from flows.cli.signals import stopping_at_signals
from flows.disk_space import make_room_error
from flows.errors import Incomplete, LeaseHeld, MigrationError, Terminated
from flows.run.next_commands import (
    NextStep,
    begin_command,
    make_command,
    recorded_command,
)
from flows.shortage import translating_shortage

logger = logging.getLogger(__name__)

EXIT_CODES = {"proven": 0, "clean": 0, "unproven": 3, "different": 3, "incomplete": 4}
EXIT_CODES["planned"] = EXIT_CODES["checked"] = 0
EXIT_CODES["undone"] = 0
# A sample never counts as proof, whatever its result.
EXIT_CODES["sampled"] = 3
FAULT = 1
INTERRUPTED = 130
# Click's error class, which newer releases of Typer bundle.
USAGE_ERROR: Any = typer.BadParameter.__base__


class Commands(TyperGroup):
    """The commands, each of which ends with a message and an exit code."""

    def main(self, args: Sequence[str] | None = None, *_: Any, **__: Any) -> NoReturn:
        """Run the command with these arguments, by default those of the process."""
        arguments = list(sys.argv[1:] if args is None else args)
        begin_output()
        begin_command()
        ending = Ending(as_json="--json" in arguments)
        try:
            # It returns a code only if the command exited with one.
            code = super().main(arguments, "enterprises", standalone_mode=False) or 0
        except USAGE_ERROR as error:
            code = ending.by_usage(error)
        except OSError as error:
            # While printing a help text; commands handle errors of their output.
            say(f"enterprises: cannot write to standard output: {error.strerror}.")
            discard(sys.stdout)
            code = Incomplete.exit_code
        sys.exit(code)


@dataclass
class Ending:
    """How a command ends; decided once, by the command or by a forced exit."""

    as_json: bool
    code: int | None = None

    def by_error(self, error: MigrationError) -> int:
        """Print an error and its remedy; return the exit code."""
        stopped = error.exit_code == Incomplete.exit_code
        command = recorded_command() if stopped else None
        if isinstance(error, LeaseHeld):
            command = make_command("status")
        facts = {"code": error.code, "message": error.message, "remedy": error.remedy}
        self._print("incomplete" if stopped else "refused", facts, command)
        say(f"enterprises: {error}")
        if command:
            say(f"{'Resume' if stopped else 'Watch it'} with: {command}")
        return self._decide(error.exit_code)

    def by_signal(self, number: int) -> int:
        """Print that the command was stopped, and how to resume its run."""
        if number == signal.SIGTERM:
            return self.by_error(Incomplete("The command was stopped (SIGTERM)."))
        command = recorded_command()
        self._print("interrupted", None, command)
        say("enterprises: interrupted.")
        if command:
            say(f"Resume with: {command}")
        return self._decide(INTERRUPTED)

    def by_usage(self, error: Any) -> int:
        """Print which argument is wrong."""
        command = f"{error.ctx.command_path if error.ctx else 'enterprises'} --help"
        message = " ".join(error.format_message().split())
        facts = {"code": "UsageError", "message": message, "remedy": f"See: {command}"}
        self._print("refused", facts, command)
        error.show()
        return self._decide(error.exit_code)

    def by_fault(self, error: Exception) -> int:
        """Print that the error is internal; write its traceback to a file."""
        message = f"Internal error ({type(error).__name__})."
        remedy = f"Please report it with {keep_traceback()}."
        facts = {"code": type(error).__name__, "message": message, "remedy": remedy}
        self._print("failed", facts, None)
        say(f"enterprises: {message}\n{remedy}")
        return self._decide(FAULT)

    def cut_off(self, number: int) -> int:
        """Return the exit code for a process that does not end by itself."""
        _kill_prefect_server()
        return self.by_signal(number) if self.code is None else self.code

    def _print(
        self, status: str, error: dict[str, str] | None, command: str | None
    ) -> None:
        if not self.as_json:
            return
        values = {"status": status, "error": error} if error else {"status": status}
        try:
            print_json(values, next_command=command)
        except Incomplete as no_room:
            say(f"enterprises: {no_room}")

    def _decide(self, code: int) -> int:
        self.code = code
        return code


def _kill_prefect_server() -> None:
    """Kill Prefect's ephemeral server, which otherwise ends only at ``atexit``."""
    # A running server implies a loaded module; an import would take seconds.
    module: Any = sys.modules.get("prefect.server.api.server")
    servers = getattr(module, "SubprocessASGIServer", None)
    for server in list(servers._instances.values()) if servers else ():  # noqa: SLF001
        if server.server_process is not None:
            server.server_process.kill()


@contextmanager
def reporting(
    overrides: Iterable[str] | None = None,
    *,
    as_json: bool,
    allow_insecure: bool = False,
    mapping: str | None = None,
    reads_settings: bool = True,
) -> Iterator[None]:
    """Run a command under its overrides; turn errors into messages and exit codes.

    No traceback reaches the user. A command that reads the settings logs their origin.
    """
    set_up_logging()
    ending = Ending(as_json=as_json)
    try:
        with stopping_at_signals(ending.cut_off), translating_shortage():
            override(overrides, allow_insecure=allow_insecure, mapping=mapping)
            if reads_settings:
                from flows.settings.project import describe_origin

                logger.info("settings: %s", describe_origin())
            yield
            ending.code = 0
    except MigrationError as error:
        code = ending.by_error(error)
    except Terminated:
        code = ending.by_signal(signal.SIGTERM)
    except (KeyboardInterrupt, typer.Abort):
        code = ending.by_signal(signal.SIGINT)
    except typer.Exit as left:
        ending.code = left.exit_code
        raise
    except Exception as error:  # noqa: BLE001
        no_room = make_room_error(error) if isinstance(error, OSError) else None
        code = ending.by_error(no_room) if no_room else ending.by_fault(error)
    else:
        return
    raise typer.Exit(code)


def keep_traceback() -> str:
    """Write the traceback to a private file, without the error's own text.

    The text may hold values of rows. Return the file, or what to report instead.
    """
    _, error, trace = sys.exc_info()
    try:
        with tempfile.NamedTemporaryFile(
            "w",
            prefix="enterprises-fault-",
            suffix=".log",
            delete=False,
            encoding="utf-8",
            errors="backslashreplace",
        ) as file:
            file.write(f"{type(error).__name__}\n")
            file.writelines(traceback.format_tb(trace))
    except OSError:
        return "what led to it; its traceback could not be written"
    return file.name


def set_up_logging() -> None:
    """Log to standard error; log each step unless progress is shown there."""
    logging.basicConfig(
        handlers=[_StandardError()],
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    if not is_watched():
        logging.getLogger("flows").setLevel(logging.INFO)


class _StandardError(logging.StreamHandler[TextIO]):
    """Logs to the present standard error, which may be redirected for a while."""

    def emit(self, record: logging.LogRecord) -> None:
        if sys.stderr is not None:
            self.stream = sys.stderr
            super().emit(record)


def finish(
    report: Any, step: NextStep, *, as_json: bool, verbose: bool = False
) -> NoReturn:
    """Show the report and what comes next; leave with the exit code of its status."""
    if as_json:
        print_json(report.asdict(), next_command=step.command)
    else:
        show(report, step, verbose=verbose)
    raise typer.Exit(EXIT_CODES[report.status])
