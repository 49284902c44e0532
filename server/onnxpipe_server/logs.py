"""The log: lines of text or of JSON, one for each request, never with anything of its inputs."""

import logging
import time
from typing import Any

import orjson

from onnxpipe_server.explain import Account

_log = logging.getLogger("onnxpipe_server.requests")
_TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_LONGEST_PATH = 200


class JsonLines(logging.Formatter):
    """Each record as a JSON object; a request's facts are fields of it."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **(record.facts() if hasattr(record, "facts") else {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def start_log(level: str, form: str) -> None:
    """Log to standard error, as "text" or "json"."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if form == "json" else logging.Formatter(_TEXT))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def log_request(account: Account, method: str, path: str, status: int) -> None:
    """A line for a request that is over; status 0 when it got no answer."""
    if not _log.isEnabledFor(logging.INFO):
        return
    shown = path[:_LONGEST_PATH]

    def facts() -> dict[str, Any]:
        request = {"request_id": account.request_id, "method": method, "path": shown, "status": status}
        return {**request, **account.facts()}

    told = account.request_id, method, shown, status, account.total_ms
    _log.info("%s %s %r %d %.1f ms", *told, extra={"facts": facts})
