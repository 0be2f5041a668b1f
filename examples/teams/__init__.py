"""Ways in which agents work together, one module each."""
