"""`python -m infra.workbooks`: writes the workbook from the queries beside it."""

import json
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
WORKBOOK = FOLDER / "license-validations.workbook.json"
QUERIES = FOLDER / "queries"

SECTIONS = {
    "Licensing": {
        "active-environments": "table",
        "environments-without-license": "table",
        "expired-in-use": "table",
        "users-over-license": "table",
        "silent-environments": "table",
        "production-and-test": "categoricalbar",
        "status-of-products": "piechart",
    },
    "Support": {"faq-four-cases": "table", "answers-for-serial-number": "table"},
    "Operations": {
        "validation-errors": "linechart",
        "validation-error-codes": "table",
        "validation-latency": "linechart",
        "validation-steps": "table",
        "health": "linechart",
        "storage-slow": "table",
        "storage-failed": "table",
        "storage-calls": "table",
        "requests": "table",
        "deliveries": "table",
        "dead-letters": "barchart",
        "notices-timer": "table",
        "sign-ins-refused": "table",
        "key-age": "table",
        "unexpected-errors": "table",
        "telemetry-dropped": "table",
    },
}
"""What the workbook shows, in that order, and as what."""
PARAMETERS = {
    "serialNumber": ("SerialNumber", "Serial number"),
    "licensedUsers": ("LicensedUsers", "Licensed users (serial number,product,users; a line each)"),
}
"""What a query begins with as an example, `let name = "..."`, and a reader of the workbook fills in."""

_DAY_MS = 24 * 60 * 60 * 1000
_EXAMPLE = re.compile(rf'^let ({"|".join(PARAMETERS)}) = (["`]+)(.*)\2;$', re.MULTILINE)


def main() -> None:
    WORKBOOK.write_text(written(), "utf-8")


def written() -> str:
    """What should stand in the workbook's file."""
    items = [
        _text("# License validations\n\nTimes are UTC. A question without days of its own is asked of the time picked.")
    ]
    items.append(_parameters())
    for section, queries in SECTIONS.items():
        items.append(_text(f"## {section}"))
        for name, visualization in queries.items():
            items += _asked(name, visualization)
    document = {
        "version": "Notebook/1.0",
        "items": items,
        "$schema": "https://github.com/Microsoft/Application-Insights-Workbooks/blob/master/schema/workbook.json",
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def read(name: str) -> tuple[str, str, str]:
    """A query's question, how to read its answer, and the query itself."""
    head, _, query = (QUERIES / f"{name}.kql").read_text("utf-8").partition("\n\n")
    question, *reading = (line.removeprefix("// ") for line in head.splitlines())
    return question, " ".join(reading), query


def _asked(name: str, visualization: str) -> list[dict[str, Any]]:
    question, reading, query = read(name)
    content = {
        "version": "KqlItem/1.0",
        "query": _EXAMPLE.sub(
            lambda found: f"let {found[1]} = {found[2]}{{{PARAMETERS[found[1]][0]}}}{found[2]};", query
        ),
        "size": 0,
        "title": question,
        "noDataMessage": "Nothing was found.",
        "showExportToExcel": True,
        "queryType": 0,
        "resourceType": "microsoft.operationalinsights/workspaces",
        "visualization": visualization,
        # Where the query names its days itself, the time picked must not cut them short.
        **(
            {"timeContext": {"durationMs": 90 * _DAY_MS}}
            if "ago(" in query
            else {"timeContextFromParameter": "TimeRange"}
        ),
    }
    return [_text(reading, f"{name}: how to read it"), {"type": 3, "content": content, "name": name}]


def _parameters() -> dict[str, Any]:
    version = "KqlParameterItem/1.0"
    days = [{"durationMs": number * _DAY_MS} for number in (1, 2, 7, 14, 30, 90)]
    time_range = {
        "id": "5f0d7a4c-3e0b-4a52-9d0c-0d6a6f1f7b01",
        "version": version,
        "name": "TimeRange",
        "label": "Time",
        "type": 4,
        "isRequired": True,
        "value": {"durationMs": 7 * _DAY_MS},
        "typeSettings": {"selectableValues": days, "allowCustom": True},
    }
    texts = [
        {
            "id": f"5f0d7a4c-3e0b-4a52-9d0c-0d6a6f1f7b{number:02}",
            "version": version,
            "name": name,
            "label": label,
            "type": 1,
            "value": "",
            "typeSettings": {"multiLineText": True, "editorLanguage": "text"} if name == "LicensedUsers" else {},
        }
        for number, (name, label) in enumerate(PARAMETERS.values(), 2)
    ]
    content = {
        "version": version,
        "parameters": [time_range, *texts],
        "style": "above",
        "queryType": 0,
        "resourceType": "microsoft.operationalinsights/workspaces",
    }
    return {"type": 9, "content": content, "name": "parameters"}


def _text(markdown: str, name: str = "") -> dict[str, Any]:
    return {"type": 1, "content": {"json": markdown}, "name": name or markdown.splitlines()[0].strip("# ")}


if __name__ == "__main__":
    main()
