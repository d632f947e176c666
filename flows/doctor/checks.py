"""The doctor: every line of the classic troubleshooting, in order, with its remedy."""

from collections.abc import Sequence

from flows.doctor import runs, source, target
from flows.doctor.diagnosis import (
    CHECK_SECONDS,
    Check,
    CheckContext,
    Diagnosis,
    diagnose,
)
from flows.stores.dynamodb.iam import Purpose


def checks_for(purpose: Purpose) -> Sequence[Check]:
    """Return the checks in their order; the permissions are those of *purpose*."""
    asked = ("aws", "table", "greeting")
    described = ("aws", "description")
    of_runs = (
        Check("lease", runs.check_lease, described),
        Check("runs", runs.check_runs, ("lease",)),
        Check("Prefect", runs.check_prefect, ("lease",)),
    )
    return (
        Check("settings", source.check_settings),
        Check("PostgreSQL", source.check_postgresql, ("arguments",)),
        Check("table and columns", source.check_table, ("connection",)),
        Check("row-level security", source.check_row_security, ("source",)),
        Check("locks", source.check_locks, ("source",)),
        Check("clock", target.check_clock, ("aws",)),
        Check("credentials", target.check_credentials, ("aws",)),
        Check("region", target.check_region, ("aws",)),
        Check("endpoint", target.check_endpoint, ("aws",)),
        Check("DynamoDB table", target.check_table, asked),
        Check("indexes", target.check_indexes, described),
        Check("point-in-time recovery", target.check_backups, described),
        Check("throughput", target.check_throughput, described),
        *target.permission_checks(purpose),
        # The service may not even read the lease.
        *(of_runs if purpose != "serve" else ()),
        Check("disk", runs.check_disk, ("settings",)),
    )


def examine(
    purpose: Purpose = "migrate", *, seconds: float = CHECK_SECONDS
) -> Diagnosis:
    """Check all that a command needs, by the settings; nothing is changed.

    A check takes at most *seconds*. Permissions to write are tried on a
    condition that no item meets.
    """
    context = CheckContext(purpose=purpose)
    return Diagnosis(tuple(diagnose(context, checks_for(purpose), seconds)))
