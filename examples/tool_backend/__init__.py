"""Tools that live elsewhere: the backend, and an agent that calls it."""
