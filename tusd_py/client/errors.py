"""Everything that can end or delay an upload.

SendError
|- Refused            the server said no, for good
|- Unsuitable         this server cannot, or should not, be used for it
|- FileUnreadable     it cannot be opened or read
|- FileChanged        it is no longer what it was when the upload began
|- StreamGone         the server wants bytes that a pipe gives only once
|- StateUnusable      the folder with the URLs of unfinished uploads cannot be used
|- Busy               another process is sending this file
|- Stopped            the user pressed Ctrl-C
|- Gone               the upload is not there any more: a new one may be made
|- Mismatch           460: the chunk did not arrive as it was read
`- Passing            worth another try
   |- Unreachable     no answer at all
   `- NotNow          an answer that asks for patience
"""

from dataclasses import dataclass
from http import HTTPStatus


class SendError(Exception):
    """Ends a file, unless somebody nearer to it knows better; its text is for the user."""


class Stopped(SendError):
    """The user wants to stop; what is stored can be resumed."""


class Passing(SendError):
    """What may be over in a moment: ask the server where it stands, and go on from there."""

    retry_after: float = 0.0
    """Seconds that the server asks us to wait; 0 when it says nothing."""


@dataclass(eq=False)
class Unreachable(Passing):
    """The connection could not be made, or broke before an answer came."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(eq=False)
class AnswerError(SendError):
    """An answer of the server that is not the one hoped for."""

    status: int
    sentence: str

    def __str__(self) -> str:
        return f"the server answered {self.status}: {self.sentence or phrase(self.status)}"


class Refused(AnswerError):
    """Trying again would bring the same answer."""


class Gone(AnswerError):
    """403, 404 or 410 for an upload ("Core Protocol, HEAD")."""


class Mismatch(AnswerError):
    """460 for a chunk ("Checksum"): it was discarded, and the offset has not moved."""


@dataclass(eq=False)
class NotNow(AnswerError, Passing):
    """408, 409, 423, 425, 429 or 5xx."""

    retry_after: float = 0.0


@dataclass(eq=False)
class Unsuitable(SendError):
    """The server lacks what a flag needs, takes no such file, or is not to be trusted."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(eq=False)
class FileUnreadable(SendError):
    """The file or folder cannot be opened, listed or read."""

    reason: str

    def __str__(self) -> str:
        return f"cannot be read: {self.reason}"


class FileChanged(SendError):
    """Size or time of change differ from those at the beginning."""

    def __str__(self) -> str:
        return "the file changed while it was being sent; run again to send it as it is now"


@dataclass(eq=False)
class StreamGone(SendError):
    """The server stands before what is still in memory of a pipe."""

    offset: int
    kept_from: int

    def __str__(self) -> str:
        return (
            f"the server has only {self.offset} bytes, "
            f"and standard input cannot be read again before {self.kept_from}"
        )


@dataclass(eq=False)
class StateUnusable(SendError):
    """The folder for the URLs of unfinished uploads cannot be used."""

    reason: str

    def __str__(self) -> str:
        return f"cannot keep what is needed to resume: {self.reason}; --no-resume does without"


class Busy(SendError):
    """Another process holds the lock of this upload."""

    def __str__(self) -> str:
        return "another process is sending this file to this URL"


def phrase(status: int) -> str:
    """The standard words for a status: 'Not Found' for 404."""
    if status == 460:
        return "Checksum Mismatch"
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "no reason given"
