"""Logs: one JSON object a line on standard error, so that nobody's text can forge a line."""

import logging
import sys

import structlog
from asgi_correlation_id import correlation_id
from structlog.typing import EventDict, WrappedLogger


def _add_request_id(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    if request_id := correlation_id.get():
        event["request_id"] = request_id
    return event


def configure_logs(level: str) -> None:
    """Set structlog up; the standard library's loggers are kept to warnings."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_request_id,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING)
    # The check reports what it can't parse; sqlglot's own warnings would repeat model text.
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
