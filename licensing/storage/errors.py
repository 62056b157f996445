"""What a transaction may fail by, besides storage that does not respond (`StorageUnavailable`)."""

from licensing.errors import LicensingError, RuleBroken


class RowTooLarge(RuleBroken):
    """The record, or the change as a whole, is larger than Table Storage takes."""

    code, title = "recordTooLarge", "This is more than can be kept in one record or one change"


class ConcurrencyConflict(LicensingError):
    """A row that the transaction relied on has changed meanwhile. Nothing was written; whoever asked reads again."""
