"""Pure types and rules: tool contracts, agents, limits, errors and what travels over Temporal. No I/O, nothing of ours imported."""
