"""The rules that every record of a publisher keeps. Pure: no storage, no clock."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from zoneinfo import available_timezones

from licensing.catalogue.records import CustomerProduct, Environment, Product, Publisher, Record, User
from licensing.errors import AlreadyExists, Conflict, FieldError, HasChildren, RuleBroken
from licensing.fields import Described, described, span_faults
from licensing.identifiers import fold, is_domain, is_email, is_guid

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_CONTROL_BUT_LINES = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
MAX_DOMAINS = 50
MAX_ROLES = 50


def normalized[R: Record](record: R) -> R:
    """The record as it is stored: texts without spaces at their ends, no number of users instead of 0."""
    changes: dict[str, Any] = {item.attribute: getattr(record, item.attribute).strip() for item in _texts(record)}
    if isinstance(record, CustomerProduct):
        changes["number_of_users"] = record.number_of_users or None
    return replace(record, **changes)


def _texts(record: Any) -> Iterator[Described]:
    return (item for item in described(type(record)) if item.most is not None)


def check(record: Record, before: Record | None = None) -> None:
    """Check a record against the rules that need no other record. Raises RuleBroken with every field at fault.

    `before`: the saved record, if there is one. Its own serial number is accepted again.
    """
    faults = [*field_faults(record)]
    match record:
        case CustomerProduct():
            faults += _customer_product_faults(record)
        case Environment():
            faults += _environment_faults(record, before if isinstance(before, Environment) else None)
        case Publisher():
            faults += _publisher_faults(record)
        case User():
            faults += _user_faults(record)
        case _:
            pass
    if faults:
        raise RuleBroken(" ".join(fault.message for fault in faults), errors=faults)


_SETTING = re.compile(r"LICENSING_TELEMETRY_OF_[A-Z0-9_]+", re.ASCII)
"""Not any setting: the others hold secrets."""


def field_faults(item: Any) -> Iterator[FieldError]:
    """What is wrong with the fields of the record, or of a part of one, each looked at by itself."""
    yield from _text_faults(item)
    for known in described(type(item)):
        yield from span_faults(known, getattr(item, known.attribute))


def _text_faults(record: Any) -> Iterator[FieldError]:
    for item in _texts(record):
        name, label, held, most = item.name, item.label, getattr(record, item.attribute), item.most or 0
        control = _CONTROL_BUT_LINES if item.lines else _CONTROL
        if item.mandatory and not fold(held):
            yield FieldError(name, "mandatory", f"Fill in {label}.")
        if len(held) > most:
            yield FieldError(name, "tooLong", f"{label} has {most} characters at most.")
        if control.search(held):
            yield FieldError(name, "controlCharacter", f"{label} holds a character that cannot be printed.")
        if held and item.like == "url" and not held.startswith(("https://", "http://")):
            yield FieldError(name, "notAUrl", f"{label} must begin with https://.")
        if held and item.like == "email" and not is_email(held):
            yield FieldError(name, "notAnEmail", f"{label} is no email address.")
        if held and item.like == "guid" and not is_guid(held):
            yield FieldError(name, "notAGuid", f"{label} is a GUID, in lower case.")
        if held and item.like == "setting" and not _SETTING.fullmatch(held):
            yield FieldError(
                name, "notASetting", f"{label} is the name of an app setting: LICENSING_TELEMETRY_OF_NAME."
            )


def _customer_product_faults(license_: CustomerProduct) -> Iterator[FieldError]:
    users = license_.number_of_users
    if users is None and not license_.site_license:
        yield FieldError("numberOfUsers", "usersOrSite", "Fill in No. of Users, or set Site (Module) License to Yes.")
    start, end = license_.start_date, license_.end_date
    if start and end and start > end:
        yield FieldError("endDate", "datesOutOfOrder", "The end date cannot lie before the start date.")


def _environment_faults(environment: Environment, before: Environment | None) -> Iterator[FieldError]:
    # On premises the settings AADTenantId and TenantDomainGUID hold the text "adfs":
    # https://learn.microsoft.com/dynamics365/fin-ops-core/dev-itpro/deployment/authentication-onprem
    # Environments that were saved before this rule stay editable.
    is_unchanged = before is not None and fold(before.serial_number) == fold(environment.serial_number)
    if fold(environment.serial_number) == "adfs" and not is_unchanged:
        message = (
            "adfs is not a serial number: every on-premises installation reports it as its tenant. "
            "Copy the serial number from the About page of the customer's D365FO (Help & Support > About)."
        )
        yield FieldError("serialNumber", "notASerialNumber", message)


def _publisher_faults(publisher: Publisher) -> Iterator[FieldError]:
    if not is_guid(publisher.id):
        yield FieldError("id", "notAGuid", "The id of a publisher is a GUID in lower case.")
    if publisher.time_zone and publisher.time_zone not in available_timezones():
        yield FieldError("timeZone", "unknown", "There is no such time zone: name it as Pacific/Auckland.")
    if len(publisher.allowed_domains) > MAX_DOMAINS:
        yield FieldError("allowedDomains", "tooMany", f"A publisher has {MAX_DOMAINS} domains at most.")
    if not all(map(is_domain, publisher.allowed_domains)):
        yield FieldError("allowedDomains", "notADomain", "Allowed domains are written as contoso.com, in lower case.")


def _user_faults(user: User) -> Iterator[FieldError]:
    if bool(user.email) == bool(user.application_id):
        yield FieldError("email", "emailOrApplication", "Fill in Email for a person, or Application for a program.")
    if len(user.role_ids) > MAX_ROLES:
        yield FieldError("roleIds", "tooMany", f"A user has {MAX_ROLES} roles at most.")


def check_product_name_free(product: Product, others: Iterable[Product]) -> None:
    """Raise AlreadyExists where another product of the publisher has this name."""
    for other in others:
        if other.id != product.id and fold(other.name) == fold(product.name):
            message = f'There is a product "{other.name}" already. Choose another name.'
            raise AlreadyExists(message, errors=[FieldError("name", "taken", message)])


def check_serial_number(environment: Environment, holders: Iterable[Environment]) -> None:
    """Raise AlreadyExists where the customer has the serial number for the same tenant already.

    `holders`: the customer's environments with that serial number.
    """
    for holder in holders:
        if holder.id != environment.id and fold(holder.tenant) == fold(environment.tenant):
            message = (
                f"This customer has the serial number for the tenant {holder.tenant} already. "
                "Edit that environment, or fill in another tenant."
            )
            raise AlreadyExists(message, errors=[FieldError("serialNumber", "taken", message)])


class SerialNumberTaken(AlreadyExists):
    """Another customer of the publisher has the serial number.

    The message does not name that customer, since not every caller may see customers.
    """

    def __init__(self, customer_name: str, *, named: bool = False) -> None:
        holder = f'The customer "{customer_name}"' if named else "Another customer"
        message = (
            f"{holder} has this serial number already. A serial number belongs to one customer: check the number, or "
            "delete the other customer's environment first."
        )
        super().__init__(message, errors=[FieldError("serialNumber", "taken", message)])
        self._customer_name = customer_name

    def naming_customer(self) -> "SerialNumberTaken":
        """The same error for a caller who may see the publisher's customers."""
        return SerialNumberTaken(self._customer_name, named=True)


def check_user(
    before: User | None, user: User, others: Sequence[User], publisher: Publisher, role_ids: Iterable[str]
) -> None:
    """Raise where the user cannot be one of this publisher's, beside its other users and its roles.

    A domain that is allowed no more keeps its users out, but does not keep them from being switched off.
    """
    domain = fold(user.email).partition("@")[2]
    is_new = before is None or not user.is_named_as(before)
    if is_new and user.email and domain not in publisher.allowed_domains:
        message = (
            f"{publisher.name} has no users of the domain {domain}. A global admin can add it to the allowed domains."
        )
        raise RuleBroken(message, errors=[FieldError("email", "domainNotAllowed", message)])
    if set(user.role_ids) - set(role_ids):
        message = "Choose roles of this publisher."
        raise RuleBroken(message, errors=[FieldError("roleIds", "unknown", message)])
    for other in others:
        name = "email" if user.email else "applicationId"
        if other.id != user.id and other.is_named_as(user):
            message = f"{other.label} is a user already."
            raise AlreadyExists(message, errors=[FieldError(name, "taken", message)])


def may_sign_in(user: User, publisher: Publisher) -> bool:
    """Whether the user's domain is one that the publisher has users of. An application has none."""
    return not user.email or fold(user.email).partition("@")[2] in publisher.allowed_domains


def is_admin(user: User | None, publisher: Publisher) -> bool:
    """Whether the user can administer the publisher, today."""
    return user is not None and user.active and user.organization_admin and may_sign_in(user, publisher)


def check_admin_remains(before: User | None, after: User | None, others: Iterable[User], publisher: Publisher) -> None:
    """Raise Conflict where this change would leave the publisher without an organization admin."""
    if is_admin(before, publisher) and not any(is_admin(each, publisher) for each in (after, *others)):
        raise LastAdmin("This is the publisher's last organization admin: make somebody else one first.")


class LastAdmin(Conflict):
    """A publisher has an organization admin, once it has one."""

    code, title = "lastAdmin", "Somebody has to administer the publisher"


def check_deletable(record: Record, *, children: Iterable[tuple[int, str]]) -> None:
    """Raise HasChildren, naming how many of what stand in the way: `children` are (count, noun)."""
    obstacles = [f"{count} {noun}{'s' if count > 1 else ''}" for count, noun in children if count]
    if obstacles:
        raise HasChildren(f"{record.label} cannot be deleted: it still has {' and '.join(obstacles)}.")
