"""The documentation: pages, decisions, and the script that checks their links."""
