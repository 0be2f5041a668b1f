"""Structured logs: JSON for machines, colours for people, never a payload at INFO."""

import logging
import sys
import traceback
from types import TracebackType
from typing import Any

import structlog

from handfast.settings import Settings


def trace_of(error: BaseException) -> str:
    """Where an error was raised, and its type and those of its causes: all of it but what they say, which may be contents."""
    lines = traceback.format_tb(error.__traceback__)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    told = f"{type(error).__module__}.{type(error).__qualname__}"
    return f"{trace_of(cause)}\nand then\n{''.join(lines)}{told}" if cause is not None else f"{''.join(lines)}{told}"


def _render(exc_info: tuple[type[BaseException], BaseException, TracebackType | None]) -> str:
    return trace_of(exc_info[1])


WITHOUT_MESSAGES = structlog.processors.ExceptionRenderer(_render)
"""Exceptions in the log, above DEBUG."""


def configure_logs(settings: Settings) -> None:
    """Set up structlog for this process, and send the standard library's records the same way."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    console = settings.log_format == "console" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info if level <= logging.DEBUG else WITHOUT_MESSAGES,
    ]
    renderer: Any = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    # Temporal's worker logs each failed attempt with its traceback; the engine logs the same fact once, in short.
    logging.getLogger("temporalio.activity").setLevel(logging.ERROR)
