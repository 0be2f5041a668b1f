"""Undoing what a run did."""
