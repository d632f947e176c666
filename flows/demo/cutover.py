"""The days after a cutover, rehearsed on embedded stores."""

import logging
from contextlib import closing

import psycopg2

from flows.api.dynamodb_store import DynamoStore
from flows.demo.stores import SAMPLE_QUARANTINED, NotebookStores
from flows.models import MigrateOptions, derive_ids
from flows.pipeline import migrate, reconcile
from flows.settings import Settings
from flows.stores.dynamodb.cutover_marker import declare_cutover
from flows.stores.dynamodb.lease import Lease
from flows.stores.dynamodb.table import open_table

logger = logging.getLogger(__name__)

# Rows of the sample that the application edits or deletes.
EDITED, DELETED = ("13", "15", "16"), "17"
# A part of the sample is enough, and is compared quickly.
KEEP_SOME = "DELETE FROM public.enterprises WHERE id > 2000"
WRITE_TO_OLD_SOURCE = """
INSERT INTO public.enterprises (name, created_date, updated_date)
VALUES ('Nachzügler GmbH', now(), now()), ('Late & Co', now(), now());
UPDATE public.enterprises
SET name = 'Renamed in the old source', updated_date = now() WHERE id = 21;
"""


def rehearse_cutover(stores: NotebookStores) -> None:
    """Migrate, declare the cutover, and write to both sides, reconciling in between.

    First the application edits, deletes and creates items, which is allowed. Then rows
    are written to the old source, which is not. Only embedded stores are changed.
    """
    if not stores.embedded:
        logger.warning("the cutover is not rehearsed: these are not embedded stores")
        return
    table, settings = open_table(stores.settings), stores.settings
    _write(settings, KEEP_SOME)
    migrate(MigrateOptions(allow_quarantined=SAMPLE_QUARANTINED))
    declare_cutover(table, Lease(table, "cutover", settings.lease_seconds))
    _use_items(DynamoStore(table, consistent=True), settings)
    reconcile()
    _write(settings, WRITE_TO_OLD_SOURCE)


def catch_up(stores: NotebookStores) -> None:
    """Migrate the late writes to the old source, and nothing else."""
    if stores.embedded:
        allowed = SAMPLE_QUARANTINED
        migrate(MigrateOptions(allow_quarantined=allowed, after_cutover=True))


def _use_items(application: DynamoStore, settings: Settings) -> None:
    """Edit, delete and create items as the service does."""
    edited = derive_ids((*EDITED, DELETED), "integer", settings.id_namespace)
    for number, identity in enumerate(edited[:-1]):
        application.replace(identity, f"Edited by the application {number}", _always)
    application.delete(edited[-1], _always)
    application.create("Founded after the cutover")


def _write(settings: Settings, statement: str) -> None:
    with closing(psycopg2.connect(**settings.source_arguments())) as source, source:
        source.cursor().execute(statement)


def _always(_: object) -> bool:
    return True
