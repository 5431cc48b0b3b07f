"""The error of a likelihood or a distribution that does not provide what is asked of it."""


class Unavailable(TypeError):
    """A method is asked of a likelihood or distribution that does not provide it.

    Where another way exists, this error is caught; any other `TypeError` is the user's own and passes.
    """
