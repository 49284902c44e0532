"""Request bodies, read under a limit."""

from starlette.requests import ClientDisconnect, Request

from onnxpipe.errors import Cancelled
from onnxpipe_server.status import BodyTooLarge

# How far a body that is too large is still read: a client that is cut off while sending never sees the answer.
_DRAIN_BYTES = 64 * 2**20


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises BodyTooLarge over `limit` bytes, by its header or as it comes; Cancelled when the client
    leaves before the end.
    """
    length = request.headers.get("content-length", "")
    declared = int(length) if length.isdecimal() else 0
    if declared > limit and "expect" in request.headers:  # the client waits for "100 Continue" before it sends
        raise _too_large(declared, limit)
    chunks, received = [], 0
    try:
        async for chunk in request.stream():
            received += len(chunk)
            if received <= limit:
                chunks.append(chunk)
            elif received > limit + _DRAIN_BYTES:
                break
    except ClientDisconnect:
        raise Cancelled("the client left before its request was complete") from None
    if max(declared, received) > limit:
        raise _too_large(max(declared, received), limit)
    return b"".join(chunks)


def _too_large(given: int, limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is too large: at most {limit} bytes are accepted, given {given}")
