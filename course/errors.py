"""Errors that are a sentence for the reader: the command line prints the message, never a traceback."""


class CourseError(Exception):
    """Something went wrong that the message explains, together with what to do about it."""

    exit_code = 1


class UsageError(CourseError):
    """The command line asked for something that does not exist."""

    exit_code = 2
