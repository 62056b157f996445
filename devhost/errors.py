"""What stops the host before it serves."""


class StartError(Exception):
    """The host cannot start. The message tells the developer what is wrong and where, in a line or a few."""
