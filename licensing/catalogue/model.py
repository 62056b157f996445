"""The records of a publisher, and the rules that every one of them keeps. Pure: no storage, no clock.

Dates are calendar dates, as somebody wrote them: they have no time and no time zone, and nothing ever shifts them.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import date, datetime
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from licensing.errors import AlreadyExists, FieldError, HasChildren, RuleBroken

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_CONTROL_BUT_LINES = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s.]+")
MAX_USERS = 1_000_000


class Region(StrEnum):
    NONE = "none"
    ANZ = "anz"
    GLOBAL = "global"
    NORDIC = "nordic"


class LicenseType(StrEnum):
    PERPETUAL = "perpetual"
    MONTH = "month"
    QUARTER = "quarter"
    ANNUAL = "annual"
    SUBSCRIPTION = "subscription"
    TEMP = "temp"


def fold(text: str) -> str:
    """The text as names are compared: without regard to case, spaces round it, and how Unicode composes it."""
    if text.isascii():  # the same, much faster, and nearly always so
        return text.strip().lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text.strip()).casefold())


def _text(label: str, *, most: int = 128, mandatory: bool = False, lines: bool = False, like: str | None = None) -> Any:
    """A text field of a record: what people call it, and what it may hold (`like`: "url" or "email")."""
    metadata = {"label": label, "most": most, "mandatory": mandatory, "lines": lines, "like": like}
    return field(metadata=metadata) if mandatory else field(default="", metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """What all records have. `etag` names the state in which the record was read; it is never written."""

    kind: ClassVar[str]

    id: str
    created_at: datetime
    updated_at: datetime
    etag: str = field(default="", compare=False)

    @property
    def parent(self) -> str:
        """The id of the record that this one belongs to; "" where that is the publisher."""
        return ""

    @property
    def label(self) -> str:
        """What a person calls the record."""
        return self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher(_Record):
    """A seller of products. Its id is the GUID that is compiled into its X++ classes."""

    kind: ClassVar[str] = "publisher"

    name: str = _text("Name", mandatory=True)
    support_email: str = _text("Support email", like="email")
    allowed_domains: tuple[str, ...] = ()
    directory_id: str = _text("Directory", most=36)


@dataclass(frozen=True, slots=True, kw_only=True)
class Product(_Record):
    """What is sold. Its name equals the name of the X++ enum element of DXCLicenseProductIdentifier."""

    kind: ClassVar[str] = "product"

    name: str = _text("Name", mandatory=True)
    description: str = _text("Description", most=2000, lines=True)
    region: Region = Region.NONE
    license_control_disabled: bool = False
    terms_url: str = _text("Terms and conditions URL", most=2000, like="url")
    user_guide_url: str = _text("User guide URL", most=2000, like="url")
    release_notes_url: str = _text("Release notes URL", most=2000, like="url")
    support_email: str = _text("Support email", like="email")
    active: bool = True

    @property
    def label(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer(_Record):
    """Who buys."""

    kind: ClassVar[str] = "customer"

    name: str = _text("Name", mandatory=True)
    description: str = _text("Description", most=2000, lines=True)
    region: Region = Region.NONE
    number: str = _text("Number")

    @property
    def label(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerProduct(_Record):
    """The license of one product to one customer."""

    kind: ClassVar[str] = "customerProduct"

    customer_id: str
    product_id: str
    license_type: LicenseType
    enabled: bool = True
    site_license: bool = False
    number_of_users: int | None = None
    start_date: date | None = None
    end_date: date | None = None
    feature_disable_date: date | None = None
    agreement_start_date: date | None = None
    wbs: str = _text("WBS")
    invoiced_as: str = _text("Invoiced as", most=500)
    notes: str = _text("Notes", most=5000, lines=True)

    @property
    def parent(self) -> str:
        return self.customer_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment(_Record):
    """An installation of D365FO at a customer, known by its serial number."""

    kind: ClassVar[str] = "environment"

    customer_id: str
    tenant: str = _text("Tenant", mandatory=True)
    serial_number: str = _text("Serial number", mandatory=True)
    active: bool = True

    @property
    def parent(self) -> str:
        return self.customer_id

    @property
    def label(self) -> str:
        return self.tenant


type Record = Publisher | Product | Customer | CustomerProduct | Environment


def wire_name(attribute: str) -> str:
    """`license_type` -> `licenseType`: the field's name in JSON and in the table."""
    head, *tail = attribute.split("_")
    return head + "".join(word.capitalize() for word in tail)


def trimmed[R: Record](record: R) -> R:
    """The record without spaces round its texts: nobody means them."""
    texts = {item.name: getattr(record, item.name).strip() for item in fields(record) if "label" in item.metadata}
    return replace(record, **texts)


def check(record: Record) -> None:
    """Hold a record against the rules that need nothing but itself. Raises RuleBroken with every field at fault."""
    faults = [*_text_faults(record)]
    if isinstance(record, CustomerProduct):
        faults += _customer_product_faults(record)
    if isinstance(record, Publisher):
        faults += _publisher_faults(record)
    if faults:
        raise RuleBroken(" ".join(fault.message for fault in faults), errors=faults)


def _text_faults(record: Record) -> Iterator[FieldError]:
    for item in fields(record):
        if "label" not in item.metadata:
            continue
        name, label, value = wire_name(item.name), item.metadata["label"], getattr(record, item.name)
        control = _CONTROL_BUT_LINES if item.metadata["lines"] else _CONTROL
        if item.metadata["mandatory"] and not value.strip():
            yield FieldError(name, "mandatory", f"Fill in {label}.")
        if len(value) > item.metadata["most"]:
            yield FieldError(name, "tooLong", f"{label} has {item.metadata['most']} characters at most.")
        if control.search(value):
            yield FieldError(name, "controlCharacter", f"{label} holds a character that cannot be printed.")
        if value and item.metadata["like"] == "url" and not value.startswith(("https://", "http://")):
            yield FieldError(name, "notAUrl", f"{label} must begin with https://.")
        if value and item.metadata["like"] == "email" and not _EMAIL.fullmatch(value):
            yield FieldError(name, "notAnEmail", f"{label} is no email address.")


def _customer_product_faults(license_: CustomerProduct) -> Iterator[FieldError]:
    users = license_.number_of_users
    if users is None and not license_.site_license:
        yield FieldError("numberOfUsers", "usersOrSite", "Fill in No. of Users, or set Site (Module) License to Yes.")
    if users is not None and not 1 <= users <= MAX_USERS:
        yield FieldError("numberOfUsers", "outOfRange", f"No. of Users is a number from 1 to {MAX_USERS:,}.")
    start, end, disable = license_.start_date, license_.end_date, license_.feature_disable_date
    if start and end and start > end:
        yield FieldError("endDate", "datesOutOfOrder", "The end date cannot lie before the start date.")
    if end and disable and end > disable:
        yield FieldError(
            "featureDisableDate",
            "datesOutOfOrder",
            "The feature disable date cannot lie before the end date.",
        )
    if start and disable and not end and start > disable:
        yield FieldError(
            "featureDisableDate",
            "datesOutOfOrder",
            "The feature disable date cannot lie before the start date.",
        )


def _publisher_faults(publisher: Publisher) -> Iterator[FieldError]:
    try:
        canonical = str(UUID(publisher.id)) == publisher.id
    except ValueError:
        canonical = False
    if not canonical:
        yield FieldError("id", "notAGuid", "The id of a publisher is a GUID in lower case.")


def check_product_name_free(product: Product, others: Iterable[Product]) -> None:
    """Raise AlreadyExists where another product of the publisher has this name."""
    for other in others:
        if other.id != product.id and fold(other.name) == fold(product.name):
            message = f'There is a product "{other.name}" already. Choose another name.'
            raise AlreadyExists(message, errors=[FieldError("name", "taken", message)])


def check_serial_number_free(environment: Environment, holder: Environment | None) -> None:
    """Raise AlreadyExists where another environment of the publisher has this serial number."""
    if holder is not None and holder.id != environment.id:
        message = (
            f"An environment of another tenant or customer ({holder.tenant}) has this serial number already. "
            "Check the number, or remove it there first."
        )
        raise AlreadyExists(message, errors=[FieldError("serialNumber", "taken", message)])


def check_deletable(record: Record, *, children: Iterable[tuple[int, str]]) -> None:
    """Raise HasChildren, naming how many of what stand in the way: `children` are (count, noun)."""
    obstacles = [f"{count} {noun}{'s' if count > 1 else ''}" for count, noun in children if count]
    if obstacles:
        raise HasChildren(f"{record.label} cannot be deleted: it still has {' and '.join(obstacles)}.")
