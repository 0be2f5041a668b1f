"""The same agent in each system: so many turns of one tool call, then an answer. The model is scripted in all of them."""
