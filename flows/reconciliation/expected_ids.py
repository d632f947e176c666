"""The ids that the rows of an entity must have in items, independent of ``models``."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha1
from typing import Self
from uuid import UUID, uuid5

from flows.models import IdKind, Reference, SourceTable

ENTERPRISE = "enterprise"


@dataclass(frozen=True)
class ExpectedIds:
    """The rule by which an entity's ids are made; UUIDs are kept without namespace."""

    kind: IdKind
    namespace: UUID | None

    @classmethod
    def of(cls, entity: SourceTable | Reference, root: UUID) -> Self:
        """Return the rule of an entity, or of the one that a column refers to."""
        if entity.entity != ENTERPRISE:
            return cls(entity.id_kind, uuid5(root, entity.entity))
        return cls(entity.id_kind, root if entity.id_kind == "integer" else None)

    def derive_one(self, source_id: str) -> str:
        """Derive the id of a source id.

        Raises:
            ValueError: it is not a UUID, although those of the entity are.
        """
        if self.kind != "integer":
            source_id = str(UUID(source_id))
        return str(uuid5(self.namespace, source_id)) if self.namespace else source_id

    def derive(self, source_ids: Iterable[str]) -> list[str]:
        """Derive the ids of source ids, as ``derive_one`` does.

        Raises:
            ValueError: one of them is not a UUID.
        """
        if self.kind != "integer":
            source_ids = [str(UUID(text)) for text in source_ids]
        return list(self._hashed(source_ids) if self.namespace else source_ids)

    def derive_referred(self, source_ids: Iterable[str | None]) -> list[str | None]:
        """Derive the ids of what rows refer to; None for NULL, and for no UUID."""
        texts = list(source_ids)
        # Many rows refer to the same one.
        different = [text for text in set(texts) if text is not None]
        known: dict[str | None, str | None]
        try:
            known = dict(zip(different, self.derive(different), strict=True))
        except ValueError:
            known = {text: self._derive_any(text) for text in different}
        return [known.get(text) for text in texts]

    def _derive_any(self, source_id: str) -> str | None:
        try:
            return self.derive_one(source_id)
        except ValueError:
            return None

    def _hashed(self, names: Iterable[str]) -> Iterator[str]:
        # As in uuid5, but on hexadecimal digits: version 5, then the variant's bits.
        space = self.namespace.bytes if self.namespace else b""
        variant = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
        for h in (sha1(space + text.encode()).hexdigest() for text in names):  # noqa: S324
            yield (
                f"{h[:8]}-{h[8:12]}-5{h[13:16]}-{variant[h[16]]}{h[17:20]}-{h[20:32]}"
            )
