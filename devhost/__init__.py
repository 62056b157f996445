"""The local host: Microsoft's own worker behind uvicorn, so that a laptop runs what Azure runs.

Not deployed. Read it in this order: `server` starts a `process`, and another when that dies; it loads the
`worker`, lays out the `routes` and the `timers`, and lets the `app` answer. `config` reads host.json and
local.settings.json.
"""
