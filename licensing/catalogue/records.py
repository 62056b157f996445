"""The records of a publisher. Pure: no storage, no clock.

Dates are calendar dates as entered: they have no time and no time zone, and nothing ever shifts them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from typing import ClassVar, Self

from licensing.catalogue.dates import Dates, has_ended
from licensing.fields import derived, inner, text, value
from licensing.http.permissions import Privilege, View
from licensing.identifiers import fold

MAX_USERS = 1_000_000


class Region(StrEnum):
    NONE = "none"
    ANZ = "anz"
    GLOBAL = "global"
    NORDIC = "nordic"
    INTERNAL = "internal"
    OTHER = "other"


class LicenseType(StrEnum):
    PERPETUAL = "perpetual"
    MONTH = "month"
    QUARTER = "quarter"
    ANNUAL = "annual"
    SUBSCRIPTION = "subscription"
    TEMP = "temp"
    MANAGED_SERVICES = "managedServices"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is kept of a publisher, each kind with fields of its own. `etag`: the state in which the record was read."""

    kind: ClassVar[str]

    id: str
    created_at: datetime
    updated_at: datetime
    etag: str = derived("ETag", default="", hint="Names this state of the record: for If-Match.")

    @property
    def parent(self) -> str:
        """The id of the record that this one belongs to; "" where that is the publisher."""
        return ""

    @property
    def label(self) -> str:
        """What a person calls the record."""
        return self.id

    @property
    def position(self) -> list[str]:
        """Where it stands in a list of its kind: by what people call it, and unlike any other."""
        return [fold(self.label), self.id]

    def as_of(self, _now: datetime) -> Self:
        """The record with what follows from the instant at which it is looked at."""
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher(Record):
    """A seller of products. Its id is the GUID that is compiled into its X++ classes."""

    kind: ClassVar[str] = "publisher"

    name: str = text("Name", mandatory=True)
    support_email: str = text("Support email", like="email", hint="Where customers find help.")
    licensing_email: str = text(
        "Licensing email", like="email", hint="Gets the digest of what expires; the support email, where it is empty."
    )
    time_zone: str = text("Time zone", hint="Of its notices, beside UTC: as Pacific/Auckland (IANA).")
    allowed_domains: tuple[str, ...] = value(
        "Allowed domains",
        default=(),
        hint="The email domains of the people who may sign in. For global admins to change.",
    )
    directory_id: str = text(
        "Directory",
        like="guid",
        hint="Where its users sign in: an Entra directory; the service's own, where it is empty. For global admins.",
    )
    telemetry_setting: str = text(
        "Telemetry setting",
        like="setting",
        hint="The app setting, LICENSING_TELEMETRY_OF_ and a name, that holds the connection string of its own "
        "Application Insights. For global admins to change.",
    )
    telemetry_shared: bool = value(
        "Telemetry shared",
        default=True,
        hint="What is collected goes to the service's Application Insights too, not to its own alone.",
    )
    enabled_users_collected: bool = value(
        "Enabled users collected",
        default=False,
        hint="How many users an environment has enabled is collected too: only where its customers were told.",
    )

    @property
    def label(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Product(Record):
    """What is sold. Its name equals the name of the X++ enum element of DXCLicenseProductIdentifier."""

    kind: ClassVar[str] = "product"

    name: str = text(
        "Name", mandatory=True, hint="As the element of DXCLicenseProductIdentifier in X++; unique, whatever its case."
    )
    description: str = text("Description", most=2000, lines=True)
    region: Region = value("Region", default=Region.NONE)
    license_control_disabled: bool = value(
        "Disable license control", default=False, hint="Whoever asks for the product is given a perpetual license."
    )
    terms_url: str = text("Terms and conditions URL", most=2000, like="url")
    user_guide_url: str = text("User guide URL", most=2000, like="url")
    release_notes_url: str = text("Release notes URL", most=2000, like="url")
    support_email: str = text("Support email", like="email")
    active: bool = value("Active", default=True)

    @property
    def label(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer(Record):
    """Who buys."""

    kind: ClassVar[str] = "customer"

    name: str = text("Name", mandatory=True)
    description: str = text("Description", most=2000, lines=True, hint="What the customer is also known as.")
    region: Region = value("Region", default=Region.NONE, hint="Where the head office is.")
    number: str = text("Number", hint="In the sales or finance systems.")
    product_count: int = derived("Products", default=0, hint="How many customer products there are.")
    environment_count: int = derived("Environments", default=0, hint="How many environments there are.")
    product_ids: tuple[str, ...] = derived("", default=(), shown=False)

    @property
    def label(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordWarning:
    """A field of a saved record that has no effect as it stands."""

    field: str = text("Field", settable=False, hint="The name of the field.")
    code: str = text("Code", settable=False, hint="Identifies the warning for programs.")
    message: str = text("Message", settable=False, hint="A sentence for a person.")


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerProduct(Record):
    """The license of one product to one customer."""

    kind: ClassVar[str] = "customerProduct"

    customer_id: str = value("Customer", settable=False)
    product_id: str = text("Product", mandatory=True)
    product_name: str = derived("Product name", default="")
    license_type: LicenseType = value("License type")
    enabled: bool = value("Enabled", default=True)
    active: bool = derived("Active", default=True, hint="Perpetual, or the end date has not passed.")
    warnings: tuple[RecordWarning, ...] = derived(
        "Warnings", default=(), hint="Fields that have no effect as they stand: a feature disable date."
    )
    site_license: bool = value("Site (module) license", default=False)
    number_of_users: int | None = value(
        "No. of Users",
        default=None,
        hint="Mandatory without a site license. 0 is read as empty.",
        span=(0, MAX_USERS),
    )
    start_date: date | None = value("Subscription start date", default=None, hint="Of the original purchase.")
    end_date: date | None = value("Subscription end date", default=None, hint="The day of expiry.")
    feature_disable_date: date | None = value(
        "Feature disable date",
        default=None,
        hint="From this date the feature is switched off, once the end date has passed too.",
    )
    agreement_start_date: date | None = value("Agreement start date", default=None, hint="Of the current agreement.")
    wbs: str = text("WBS", hint="Finds the invoiced line item.")
    invoiced_as: str = text("Invoiced as", most=500, hint="What the invoice calls it.")
    notes: str = text("Notes", most=5000, lines=True)

    @property
    def parent(self) -> str:
        return self.customer_id

    @property
    def label(self) -> str:
        return self.product_name or self.id

    @property
    def is_perpetual(self) -> bool:
        """Whether the license never ends. Its end date is then that of its maintenance."""
        return self.license_type is LicenseType.PERPETUAL

    def as_of(self, now: datetime) -> Self:
        active = self.is_perpetual or not has_ended(self.end_date, Dates.at(now))
        return replace(self, active=active, warnings=tuple(record_warnings(self)))


def record_warnings(license_: CustomerProduct) -> Iterator[RecordWarning]:
    """A warning for a feature disable date that has no effect by itself."""
    end_date, disable_date = license_.end_date, license_.feature_disable_date
    if disable_date is None:
        return
    if end_date is None:
        code, message = "withoutEndDate", "The feature disable date has no effect without an end date."
    elif disable_date < end_date:
        code, message = "beforeEndDate", "The feature disable date has no effect before the end date has passed."
    else:
        return
    yield RecordWarning(field="featureDisableDate", code=code, message=message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment(Record):
    """An installation of D365FO at a customer, known by its serial number."""

    kind: ClassVar[str] = "environment"

    customer_id: str = value("Customer", settable=False)
    tenant: str = text("Tenant", mandatory=True, hint="The domain of the environment, such as contoso.com.")
    serial_number: str = text(
        "Serial number",
        mandatory=True,
        hint="From the About page of D365FO. Belongs to one customer, which may register it for several tenants.",
    )
    active: bool = value("Active", default=True)

    @property
    def parent(self) -> str:
        return self.customer_id

    @property
    def label(self) -> str:
        return self.tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class Role(Record):
    """What a user who has it may do: for each view, one privilege, which includes those before it."""

    kind: ClassVar[str] = "role"

    name: str = text("Name", mandatory=True)
    privileges: Mapping[View, Privilege] = value(
        "Privileges", default=dict, hint="For each view one of read, update, create, delete."
    )

    @property
    def label(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class User(Record):
    """Who works with the publisher's records: a person, known by an email address, or an application."""

    kind: ClassVar[str] = "user"

    email: str = text("Email", like="email", hint="The organization's email account the person signs in with.")
    application_id: str = text("Application", like="guid", hint="The client id, where an application signs in.")
    name: str = text("Name")
    organization_admin: bool = value(
        "Organization admin", default=False, hint="May do everything in the publisher, users and roles included."
    )
    role_ids: tuple[str, ...] = value("Roles", default=())
    active: bool = value("Active", default=True)
    identity: str = inner("")
    """`directory|object id` of whoever signed in first as this user: nobody else is this user from then on."""

    @property
    def label(self) -> str:
        return self.name or self.email or self.application_id

    def is_named_as(self, other: "User") -> bool:
        return (fold(self.email), self.application_id) == (fold(other.email), other.application_id)
