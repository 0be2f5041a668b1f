"""Worker processes: settings, the embedded engine, health, graceful drain."""
