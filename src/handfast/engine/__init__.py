"""Reaching a Temporal server: one that is configured, or the embedded one."""
