"""Every error onnxpipe raises on purpose.

    OnnxpipeError                     catch this for all of them
      InvalidInput      ValueError    what the caller gave is wrong; the message says what was expected
        UnprocessableInput            well-formed, but this model cannot honour it (a prompt it does not have)
        MalformedAudio                bytes that are no audio, or are damaged
        MalformedImage                the same of an image
        UnsupportedMedia              a kind of file whose decoder is an extra that is not installed
      UnsupportedModel  ValueError    a model, task or file kind that cannot be exported or run
      BundleError       ValueError    a bundle that is incomplete, altered, unsafe or of another format version
      ProviderUnavailable RuntimeError  a requested execution provider is not there
      Overloaded        RuntimeError  more work than the limits allow; try later
      DeadlineExceeded  TimeoutError  the work could not be done in time
      Cancelled         RuntimeError  the caller gave up

Anything else that escapes is a bug.
"""


class OnnxpipeError(Exception):
    """Base of all errors raised on purpose."""


class InvalidInput(OnnxpipeError, ValueError):
    """What the caller gave is wrong."""


class UnprocessableInput(InvalidInput):
    """Well-formed, but this model cannot honour it."""


class MalformedAudio(InvalidInput):
    """Bytes that are no audio, or are damaged."""


class MalformedImage(InvalidInput):
    """Bytes that are no image of a known format, or are damaged."""


class UnsupportedMedia(InvalidInput):
    """A kind of file whose decoder is an extra that is not installed."""


class UnsupportedModel(OnnxpipeError, ValueError):
    """A model, task or file kind that cannot be exported or run."""


class BundleError(OnnxpipeError, ValueError):
    """A bundle that is incomplete, altered, unsafe or of another format version."""


class ProviderUnavailable(OnnxpipeError, RuntimeError):
    """A requested execution provider is not there."""


class Overloaded(OnnxpipeError, RuntimeError):
    """More work than the limits allow; `retry_after_s` says when there may be room for it."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(OnnxpipeError, TimeoutError):
    """The work could not be done in time; `retry_after_s` says when it may be faster."""

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Cancelled(OnnxpipeError, RuntimeError):
    """The caller gave up."""
