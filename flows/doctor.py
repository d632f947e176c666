"""The doctor: every line of the classic troubleshooting, in order, with its remedy."""

from collections.abc import Sequence

from flows import doctor_runs, doctor_source, doctor_target
from flows.diagnosis import (
    CHECK_SECONDS,
    Check,
    Diagnosis,
    Examination,
    diagnose,
)
from flows.stores.dynamodb.iam import Purpose


def checks_for(purpose: Purpose) -> Sequence[Check]:
    """Return the checks in their order; the permissions are those of *purpose*."""
    asked = ("aws", "table", "greeting")
    described = ("aws", "description")
    runs = (
        Check("lease", doctor_runs.check_lease, described),
        Check("runs", doctor_runs.check_runs, ("lease",)),
        Check("Prefect", doctor_runs.check_prefect, ("lease",)),
    )
    return (
        Check("settings", doctor_source.check_settings),
        Check("PostgreSQL", doctor_source.check_postgresql, ("arguments",)),
        Check("table and columns", doctor_source.check_table, ("connection",)),
        Check("row-level security", doctor_source.check_row_security, ("source",)),
        Check("locks", doctor_source.check_locks, ("source",)),
        Check("clock", doctor_target.check_clock, ("aws",)),
        Check("credentials", doctor_target.check_credentials, ("aws",)),
        Check("region", doctor_target.check_region, ("aws",)),
        Check("endpoint", doctor_target.check_endpoint, ("aws",)),
        Check("DynamoDB table", doctor_target.check_table, asked),
        Check("indexes", doctor_target.check_indexes, described),
        Check("point-in-time recovery", doctor_target.check_backups, described),
        Check("throughput", doctor_target.check_throughput, described),
        *doctor_target.permission_checks(purpose),
        # The service may not even read the lease.
        *(runs if purpose != "serve" else ()),
        Check("disk", doctor_runs.check_disk, ("settings",)),
    )


def examine(
    purpose: Purpose = "migrate", *, seconds: float = CHECK_SECONDS
) -> Diagnosis:
    """Check all that a command needs, by the settings; nothing is changed.

    A check takes at most so many *seconds*. Permissions to write are tried on a
    condition that no item meets.
    """
    examination = Examination(purpose=purpose)
    return Diagnosis(tuple(diagnose(examination, checks_for(purpose), seconds)))
