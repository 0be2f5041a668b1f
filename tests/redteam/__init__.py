"""The red team: a model that obeys whoever it reads, against the whole engine, with what was executed as the only witness.

`make redteam` plays everything and prints one table. The engine's own cases are here and run with the tests; InjecAgent and AgentDojo
stay outside: see `data.py` for where they are looked for.
"""
