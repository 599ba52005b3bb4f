"""Logs: one JSON object a line on standard error, so that nobody's text can forge a line."""

import logging
import sys

import structlog
from asgi_correlation_id import correlation_id
from structlog.typing import EventDict, Processor, WrappedLogger


def _add_request_id(logger: WrappedLogger, name: str, event: EventDict) -> EventDict:
    if request_id := correlation_id.get():
        event["request_id"] = request_id
    return event


SHARED: list[Processor] = [
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _add_request_id,
    structlog.processors.format_exc_info,
]


def configure_logs(level: str) -> None:
    """Set structlog up; the standard library's loggers (uvicorn's, aiohttp's) write the same
    lines and are kept to warnings."""
    json = structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*SHARED, json],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(processor=json, foreign_pre_chain=SHARED)
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    # The check reports what it can't parse; sqlglot's own warnings would repeat model text.
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
