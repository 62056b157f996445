"""The function app: one line a feature, no logic."""

from licensing import functions as common
from licensing.access import functions as access
from licensing.catalogue import functions as catalogue
from licensing.http import App
from licensing.notices import functions as notices
from licensing.notices import public_functions as public_view
from licensing.notices import subscriber_functions as subscribers
from licensing.reports import functions as reports
from licensing.services import start
from licensing.signing import functions as signing
from licensing.validation import functions as validation

# First of all: an app that cannot sign safely does not start, so that whoever deployed it sees it at once.
start()

app = App()
app.register_functions(validation.blueprint)
app.register_functions(signing.blueprint)
app.register_functions(access.blueprint)
app.register_functions(catalogue.blueprint)
app.register_functions(reports.blueprint)
app.register_functions(notices.blueprint)
app.register_functions(public_view.blueprint)
app.register_functions(subscribers.blueprint)
app.register_functions(common.blueprint)
