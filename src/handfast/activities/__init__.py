"""What touches the world: opening a run, a model's turn, a tool call, decisions, fences, closing."""
