"""Every error onnxpipe raises on purpose.

    OnnxpipeError                     catch this for all of them
      InvalidInput      ValueError    what the caller gave is wrong; the message says what was expected
        UnprocessableInput            well-formed, but this model cannot honour it (a prompt it does not have)
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


class UnsupportedModel(OnnxpipeError, ValueError):
    """A model, task or file kind that cannot be exported or run."""


class BundleError(OnnxpipeError, ValueError):
    """A bundle that is incomplete, altered, unsafe or of another format version."""


class ProviderUnavailable(OnnxpipeError, RuntimeError):
    """A requested execution provider is not there."""


class Overloaded(OnnxpipeError, RuntimeError):
    """More work than the limits allow."""


class DeadlineExceeded(OnnxpipeError, TimeoutError):
    """The work could not be done in time."""


class Cancelled(OnnxpipeError, RuntimeError):
    """The caller gave up."""
