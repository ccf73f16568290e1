"""What goes wrong in a study, as one line for the user."""


class StudyError(Exception):
    """The study cannot go on; the message is one line."""


class RunFailed(Exception):
    """One run cannot go on; the message is one line, the others are not touched."""
