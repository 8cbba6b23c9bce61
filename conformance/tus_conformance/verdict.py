"""What a case can end in besides passing.

    Exception
    +-- Violation      the server did not do what the sentence says: FAIL
    |   +-- Silence    no answer within the time
    |   +-- Hangup     the connection ended before an answer
    +-- NotApplicable  the server does not announce it, or it cannot be seen from outside: SKIP

Everything else that a case raises is a fault of the suite: ERROR.
"""


class Violation(Exception):
    """The server did something else than the sentence says.

    Args:
        expected: What a conforming server would have done.
        came: What this one did.
    """

    def __init__(self, expected: str, came: str) -> None:
        super().__init__(expected, came)
        self.expected = expected
        self.came = came

    def __str__(self) -> str:
        return f"expected {self.expected}; came {self.came}"


class Silence(Violation):
    """The server said nothing within the time it had."""


class Hangup(Violation):
    """The connection was closed or reset before the answer was complete."""


class NotApplicable(Exception):
    """The case has nothing to judge at this server; the message says why."""
