"""The client in Python: one module, to be copied."""
