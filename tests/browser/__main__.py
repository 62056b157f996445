"""`make browser`: the pages in headless Chromium, narrow and wide, light and dark, by eye and by axe.

What it looks at is what people get: a real host on a real store. The screenshots stay in .local/screenshots.
"""

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from devhost.azurite import azurite, stop
from devhost.node import node
from licensing.catalogue.draft import Draft
from licensing.catalogue.records import Product
from licensing.notices.model import Notice
from licensing.services import Services
from licensing.settings import Settings
from licensing.signing.keys import KeySet
from tests.notices.samples import a_publisher, hostile, ordinary, the_products
from tests.support.hosting import REPOSITORY, served, settings_for

SCREENSHOTS = REPOSITORY / ".local/screenshots"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET, BUSY, HOSTILE = (str(uuid4()) for _ in range(3))


def main() -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit("Chromium is needed: install it with your package manager (apt-get install chromium).")
    shutil.rmtree(SCREENSHOTS, ignore_errors=True)
    SCREENSHOTS.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder, azurite() as storage:
        settings = settings_for(storage.connection_string, KeySet().created(datetime.now(UTC)))
        asyncio.run(_fill(settings))
        with served(settings, Path(folder)) as host:
            pages = {name: f"{host.url}/status/{id_}" for name, id_ in _PAGES.items()}
            question = f"{host.url}/api/v1/publishers/{BUSY}/subscriptions/token/unsubscribe"
            _look(browser, {**pages, "question": question})
            _look(browser, {"missing": f"{host.url}/status/{uuid4()}"}, status=404)
            stop(storage)
            _look(browser, {"out-of-reach": pages["busy"], "unreadable": f"{host.url}/status/{uuid4()}"}, status=503)


_PAGES = {"quiet": QUIET, "busy": BUSY, "hostile": HOSTILE}


async def _fill(settings: dict[str, str]) -> None:
    services = Services(Settings.read(settings))
    await services.table("").create()
    now = services.clock()
    for publisher_id, name, notices in (
        (QUIET, "Fabrikam", []),
        (BUSY, "Contoso Apps", ordinary(now)),
        (HOSTILE, "W" * 128, hostile(now)),
    ):
        products = the_products(now) if publisher_id == HOSTILE else the_products(now)[:3]
        await _publish(services, publisher_id, name, products, notices)
    await services.close()


async def _publish(
    services: Services, publisher_id: str, name: str, products: list[Product], notices: list[Notice]
) -> None:
    publisher = a_publisher(services.clock(), id=publisher_id, name=name)
    await services.catalogue.create_publisher(publisher, actor="test")

    async def prepare(draft: Draft) -> None:
        for record in (*products, *notices):
            draft.put(record)

    await services.store.change(publisher_id, "test", prepare)


def _look(browser: str, pages: dict[str, str], status: int = 200) -> None:
    task = {"browser": browser, "pages": pages, "status": status, "folder": str(SCREENSHOTS)}
    command = [node(), str(Path(__file__).parent / "look.mjs"), json.dumps(task)]
    if subprocess.run(command, cwd=REPOSITORY, check=False).returncode:
        sys.exit(1)


if __name__ == "__main__":
    main()
