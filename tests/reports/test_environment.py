"""The environment in a report: enough to reproduce it, and no secret."""

from pydantic import SecretStr

from flows.reports.environment import describe_environment
from flows.settings import Settings

CANARY = "c4nary-pässword"


def test_versions_and_settings_are_told_without_a_secret() -> None:
    """The report may show the decisive settings, but no key, user or password."""
    settings = Settings.isolated(
        database_url=f"postgresql://me:{CANARY}@db.example.com/app",
        pgpassword=CANARY,
        pguser=CANARY,
        aws_access_key_id=CANARY,
        aws_secret_access_key=CANARY,
        aws_session_token=CANARY,
        api_token=SecretStr(CANARY),
        state_url=f"postgresql://me:{CANARY}@db.example.com/state",
        source_timezone="Europe/Paris",
    )
    described = describe_environment(settings)

    assert CANARY not in str(described)
    assert "DATABASE_URL" not in described
    assert described["SOURCE_TIMEZONE"] == "Europe/Paris"
    assert described["ITEM_PROVENANCE"] == "False"
    assert {"python", "enterprise-migration", "pyarrow", "boto3"} <= set(described)
    # A variable that is not set is omitted.
    assert "AWS_PROFILE" not in described
