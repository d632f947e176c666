"""The help of the commands: options in groups, examples, terms, and exit codes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from typer.core import TyperCommand

from flows.cli.options import ACCEPT, RATES, REPAIR, SCOPE
from flows.reports.glossary import GLOSSARY

EXIT_MEANINGS: Mapping[int, str] = {
    0: "done",
    1: "internal error",
    2: "refused before any write",
    3: "finished, and not proven",
    4: "stopped; can be resumed",
    5: "another run is under way",
    130: "interrupted with Ctrl-C; can be resumed",
}
COLUMNS = ("written", "unchanged", "kept newer", "quarantined", "failed")
CLASSES = (
    "matched",
    "missing",
    "extra",
    "mismatched",
    "malformed",
    "newer in target",
    "deleted in target",
    "explained",
    "created in target",
)
CHECKS, READS = (0, 2), (0, 2, 3)
WRITES = (0, 2, 3, 4, 5, 130)

ARGUMENTS, OPTIONS = "Arguments", "Options"
GROUPS = (ARGUMENTS, SCOPE, RATES, ACCEPT, REPAIR, OPTIONS)


@dataclass(frozen=True)
class Help:
    """What a command's help adds: examples with their purpose, and exit codes."""

    examples: Sequence[tuple[str, str]]
    exit_codes: Sequence[int]
    # Terms of the glossary that its output has.
    words: Sequence[str] = ()


HELP: Mapping[str, Help] = {
    "demo": Help(
        [
            ("demo", "migrate a sample; needs no settings"),
            ("demo --keep", "leave both stores running afterwards"),
        ],
        (0, 2, 3, 4),
    ),
    "init": Help(
        [
            ("init", "ask for everything"),
            ("init --database-url-file -", "read the URL from standard input"),
        ],
        (0, 2),
    ),
    "mapping init": Help(
        [
            ("mapping init", "print it"),
            ("mapping init --output mapping.toml", "write it, to be edited"),
        ],
        CHECKS,
    ),
    "mapping check": Help(
        [
            ("mapping check", "the file of MAPPING_FILE"),
            ("mapping check --mapping mapping.toml", "this file"),
        ],
        CHECKS,
    ),
    "runs list": Help([("runs list", "latest first")], CHECKS),
    "runs show": Help([("runs show last", "files, and how to resume")], CHECKS),
    "runs open": Help([("runs open last", "the report in the browser")], CHECKS),
    "status": Help(
        [
            ("status", "who writes, how far, and what is proven"),
            ("status --watch", "the same, every two seconds"),
        ],
        CHECKS,
    ),
    "migrate": Help(
        [
            ("migrate --dry-run", "check and plan; write nothing"),
            ("migrate --limit 100", "a trial of 100 rows, never proven"),
            ("migrate --undo-trial", "remove the items of trials"),
            ("migrate --allow-quarantined 7", "accept 7 known bad rows"),
            ("migrate --since last", "move what changed since the last proof"),
            ("migrate --resume last", "resume a stopped run"),
        ],
        WRITES,
        ("proven", "unproven", "incomplete", "ledger", *COLUMNS),
    ),
    "validate": Help(
        [
            ("validate", "which rows would go to quarantine"),
            ("validate --target --sample 1000", "1,000 items as they are now"),
        ],
        READS,
    ),
    "reconcile": Help(
        [
            ("reconcile", "compare all rows with all items"),
            ("reconcile --sample 10000", "a quick look; never a proof"),
            ("reconcile --repair", "plan a repair; write nothing"),
            ("reconcile --repair --yes", "write the repair, compare again"),
        ],
        WRITES,
        ("clean", "different", "unproven", "sampled", *CLASSES),
    ),
    "create-table": Help([("create-table", "create the table, or check it")], CHECKS),
    "quarantine list": Help([("quarantine list", "all runs with bad rows")], CHECKS),
    "quarantine show": Help(
        [
            ("quarantine show last", "the rows of the latest run"),
            ("quarantine show last --id 4711", "one row"),
            ("quarantine show last --csv", "all rows, for another program"),
        ],
        CHECKS,
    ),
    "quarantine replay": Help(
        [("quarantine replay last", "move the rows that were corrected")], WRITES
    ),
    "serve": Help(
        [
            ("serve", "on this machine, port 4000"),
            ("serve --set STORAGE_MODE=dynamodb", "from DynamoDB"),
        ],
        CHECKS,
    ),
    "iam-policy": Help(
        [
            ("iam-policy", "what migrate needs"),
            ("iam-policy --for serve", "what the HTTP service needs"),
        ],
        CHECKS,
    ),
    "plan": Help(
        [
            ("plan", "count and measure all rows"),
            ("plan --estimate", "use statistics; quick for large tables"),
        ],
        CHECKS,
    ),
    "doctor": Help([("doctor", "check all that a migration needs")], CHECKS),
    "cutover declare": Help([("cutover declare", "asks first")], (0, 2, 5)),
    "cutover status": Help([("cutover status", "whether it is declared")], CHECKS),
    "cutover revoke": Help([("cutover revoke", "asks first")], CHECKS),
}


class HelpfulCommand(TyperCommand):
    """A command whose help shows options in groups, examples, and exit codes."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options by their group."""
        groups: dict[str, list[Any]] = {title: [] for title in GROUPS}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is None:
                continue
            kind = ARGUMENTS if param.param_type_name == "argument" else OPTIONS
            groups[getattr(param, "rich_help_panel", None) or kind].append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Write the examples, and the meaning of each exit code."""
        found = HELP.get(ctx.command_path.partition(" ")[2])
        if found is None:
            return
        examples = [(f"enterprises {line}", why) for line, why in found.examples]
        with formatter.section("Examples"):
            formatter.write_dl(examples, col_max=50)
        if found.words:
            with formatter.section("Terms"):
                formatter.write_dl([(word, GLOSSARY[word]) for word in found.words])
        with formatter.section("Exit codes"):
            meanings = dict(EXIT_MEANINGS)
            if found.exit_codes == WRITES:
                meanings[0] = "proven"
            formatter.write_dl([(str(c), meanings[c]) for c in found.exit_codes])
