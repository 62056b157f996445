"""What is kept of a license file: that it was made, for whom, and until when it counts."""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

from licensing.catalogue.records import Record
from licensing.fields import text, value


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseFileRequest:
    """What is asked of a license file."""

    days: int = value("Days", span=(1, 400), hint="For how many days the file counts.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseFile(Record):
    """A license file that was handed out: nothing takes it back, so the audit has it. The id is its `jti`."""

    kind: ClassVar[str] = "licenseFile"

    customer_id: str = text("Customer", settable=False)
    environment_id: str = text("Environment", settable=False)
    serial_number: str = text("Serial number", settable=False)
    expires_at: datetime = value("Expires at", settable=False)
