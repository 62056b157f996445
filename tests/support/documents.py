"""Parts of the documents, for the tests that follow them."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def read(name: str) -> str:
    return (REPOSITORY / name).read_text("utf-8")


def section(name: str, heading: str) -> str:
    """What stands below a heading, to the next one of its level or above."""
    level = heading.partition(" ")[0]
    text = read(name).partition(f"\n{heading}\n")[2]
    assert text, f"{name} has no {heading}"
    return re.split(rf"\n#{{1,{len(level)}}} ", text)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every table's rows, without their headings' rules."""
    lines = (line for line in text.splitlines() if line.startswith("| "))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if not set(line) <= set("|- ")]


def code_spans(text: str) -> list[str]:
    """What stands in backticks, but for fenced blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))


def fenced(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", read(name), flags=re.DOTALL)


def covered_block(name: str, language: str) -> str:
    """The block that the document says a test runs."""
    (block,) = re.findall(rf"<!-- A test runs this .*? -->\n```{language}\n(.*?)```", read(name), flags=re.DOTALL)
    return str(block)
