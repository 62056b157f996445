"""Benchmarks, each one command: how fast the license server is, beside a yardstick and a plain program."""
