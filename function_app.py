"""The function app: one line a feature, no logic."""

from licensing import functions as common
from licensing.access import functions as access
from licensing.catalogue import functions as catalogue
from licensing.http.app import App
from licensing.notices import functions as notices
from licensing.notices.delivery import functions as deliveries
from licensing.notices.public import functions as public_notices
from licensing.notices.subscriptions import functions as subscriptions
from licensing.reports import functions as reports
from licensing.services import services, start
from licensing.signing import functions as signing
from licensing.validation import functions as validation

# First: an app that cannot sign safely does not start, so that its operator sees it at once.
start()

app = App(services)
app.register(validation.endpoints)
app.register(signing.endpoints)
app.register(access.endpoints)
app.register(catalogue.endpoints)
app.register(reports.endpoints)
app.register(notices.endpoints)
app.register(public_notices.endpoints)
app.register(subscriptions.endpoints)
app.register(deliveries.endpoints)
app.register(common.endpoints)
