"""Deterministic code only: what decides and schedules. It imports contracts, and activities by their registered names."""
