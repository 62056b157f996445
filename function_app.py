"""The function app: one line a feature, no logic."""

import azure.functions as func

from licensing import functions as common
from licensing.signing import functions as signing
from licensing.validation import functions as validation

app = func.FunctionApp()
app.register_functions(validation.blueprint)
app.register_functions(signing.blueprint)
app.register_functions(common.blueprint)
