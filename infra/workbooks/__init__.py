"""Questions to the telemetry of the service, and the workbook that asks them all: not deployed with the app."""
