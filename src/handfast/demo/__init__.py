"""The demo: a support desk that survives a kill in the middle of a refund. `support_desk` is an example to copy."""
