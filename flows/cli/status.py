"""``enterprises status``: who writes to the table, how far, and what is proven."""

import sys
from contextlib import suppress
from datetime import UTC, datetime
from shutil import get_terminal_size
from time import sleep
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.exits import reporting
from flows.cli.options import AllowInsecure, AsJson, Overrides
from flows.cli.output import discard, print_json, put
from flows.cli.tables import (
    describe_moment,
    make_facts,
    render,
)
from flows.errors import SettingsError
from flows.timing import describe_seconds

if TYPE_CHECKING:
    from flows.doctor.status import MigrationStatus, StateFacts
    from flows.state.overview import Proof

WATCH_SECONDS, LOG_SECONDS = 2.0, 10.0
STOPPED = ("running", "stopped")
PHASES = {
    "idle": "no run is under way",
    "stopped": "the last run stopped before its end",
    "planning": "a run has taken its snapshot and begins",
    "moving": "a run moves rows",
    "proving": "a run compares rows and items",
    "repairing": "a repair writes",
    "declaring": "the cutover is being declared",
    "held": "a run that is not in this state holds the lease",
    "unknown": "the table cannot be read",
}


def status(
    *,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help="Show it again every 2 seconds, or a line every 10 without a"
            " terminal, until Ctrl-C.",
        ),
    ] = False,
    allow_insecure_endpoint: AllowInsecure = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Show the run under way, the last proof and the cutover."""
    with reporting(overrides, allow_insecure=allow_insecure_endpoint, as_json=as_json):
        if watch and as_json:
            message = "--watch prints more than one status; --json prints one object."
            raise SettingsError(message, "Give one of them.")
        from flows.doctor.status import read_status

        if watch:
            # Nothing is interrupted by the end of a display.
            with suppress(KeyboardInterrupt):
                watch_status()
            return
        found = read_status()
        if as_json:
            print_json(found.asdict(), next_command=found.next)
        else:
            put(render(make_facts(describe(found))))


def watch_status() -> None:
    """Show the status again and again, until Ctrl-C."""
    from flows.doctor.status import read_status

    lines, output = 0, sys.stdout
    # None if the process was started without it.
    while output is not None:
        found = read_status()
        if output.isatty():
            text = render(make_facts(describe(found)))
            lines = redraw(f"{text}\nCtrl-C ends this display.", lines)
            sleep(WATCH_SECONDS)
            continue
        try:
            output.write(f"{summarize(found)}\n")
            output.flush()
        except BrokenPipeError:
            # Its reader has seen enough.
            discard(output)
            return
        sleep(LOG_SECONDS)


def redraw(text: str, former: int) -> int:
    """Print a text in place of the *former* number of lines; return how many it has.

    Not by rich, which prints twice what Ctrl-C interrupts.
    """
    lines = text.split("\n")[: get_terminal_size().lines - 1]
    up = f"\x1b[{former}A" if former else ""
    put(f"{up}\r\x1b[J" + "\n".join(lines))
    return len(lines)


def describe(found: "MigrationStatus") -> list[tuple[str, str]]:
    """Return the status as names and sentences."""
    lines = [
        ("Status", f"{found.phase}: {PHASES[found.phase]}"),
        ("Source", found.source),
        ("Target", found.target),
    ]
    if lease := describe_lease(found):
        lines.append(("Lease", lease))
    if run := found.facts.run:
        begun = describe_moment(run.begun)
        # A run that was killed or interrupted is still recorded as running.
        status = run.status if found.under_way else run.status.replace(*STOPPED)
        lines.append(("Run", f"{run.run_id}, {run.mode}, {status}, begun {begun}"))
        lines.append(("Progress", describe_progress(found.facts)))
        quarantined = run.ledger.quarantined
        lines.append(("Quarantine", f"{quarantined:,} rows of this run"))
    if found.under_way and found.snapshot_age is not None:
        lines.append(("Snapshot", f"{describe_seconds(found.snapshot_age)} old"))
    if "state" not in found.unknown:
        lines.append(("Last proof", describe_proof(found, found.facts.full)))
        if incremental := found.facts.incremental:
            lines.append(("Incremental", describe_proof(found, incremental)))
    if found.cutover is not None:
        declared = f"declared at {found.cutover}" if found.cutover else "not declared"
        lines.append(("Cutover", declared))
    if "table" in found.unknown:
        lines.append(("Table", f"cannot be read: {found.unknown['table']}"))
    unread = found.unknown.get("state")
    lines.append(("State", f"{found.state}: {unread}" if unread else found.state))
    if found.next:
        lines.append(("Next", found.next))
    return lines


def summarize(found: "MigrationStatus") -> str:
    """Return the status as one line of a log."""
    parts = [found.phase]
    if found.lease and found.lease.held:
        parts.append(f"run {found.lease.run}")
    if found.under_way and found.facts.run:
        parts.append(describe_progress(found.facts))
    parts += [f"{name}: {why}" for name, why in found.unknown.items()]
    at = describe_moment(datetime.fromtimestamp(found.at, UTC))
    return f"{at} {', '.join(parts)}"


def describe_lease(found: "MigrationStatus") -> str:
    """Return who holds the lease; empty if that is unknown."""
    lease = found.lease
    if "table" in found.unknown:
        return ""
    if lease is None:
        return "free"
    holder = f"{lease.run} on {lease.owner}"
    if not lease.held:
        ago = describe_seconds(-lease.left)
        return f"left by {holder}, which has died; it expired {ago} ago"
    left = describe_seconds(lease.left)
    return f"held by {holder} since {lease.since}; expires in {left} unless renewed"


def describe_progress(facts: "StateFacts") -> str:
    """Return how far the run is, how fast, and how long it will take."""
    run, pace = facts.run, facts.pace
    if run is None:
        return ""
    progress, ledger = run.progress, run.ledger
    unfinished = progress.finished < progress.partitions
    of_all = f" of about {pace.rows:,}" if unfinished and pace.rows else ""
    counts = {
        "written": ledger.written,
        "unchanged": ledger.unchanged,
        "kept newer": ledger.kept_newer,
        "quarantined": ledger.quarantined,
        "failed": ledger.failed,
    }
    counted = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    text = f"partition {progress.finished:,} of {progress.partitions:,}:"
    text += f" {ledger.read:,}{of_all} rows"
    text += f", {counted}" if counted else ""
    if pace.rows_per_second:
        text += f"; {pace.rows_per_second:,.0f} rows/s"
    if pace.seconds_left is not None:
        text += f", about {describe_seconds(pace.seconds_left)} left"
    return text


def describe_proof(found: "MigrationStatus", proof: "Proof | None") -> str:
    """Return when something was last proven, and what."""
    if proof is None:
        return "none"
    ago = describe_seconds(max(0.0, found.at - proof.at.timestamp()))
    return f"{ago} ago, {proof.name}: {proof.verdict}"
