"""The function app: one line a feature, no logic."""

import azure.functions as func

from licensing import functions as common
from licensing.services import refuse_unsafe_settings
from licensing.signing import functions as signing
from licensing.validation import functions as validation

# First of all: an app that cannot sign safely does not start, so that whoever deployed it sees it at once.
refuse_unsafe_settings()

app = func.FunctionApp()
app.register_functions(validation.blueprint)
app.register_functions(signing.blueprint)
app.register_functions(common.blueprint)
