"""A new colleague's first day: a plan with steps side by side, a condition, a list, and a step that a person approves."""
