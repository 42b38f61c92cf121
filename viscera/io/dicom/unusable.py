"""Why a series cannot become a Volume."""


class UnusableSeriesError(Exception):
    """The images of a series make no volume; the message says why and what to do, without the last full stop."""
