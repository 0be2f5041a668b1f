"""Everybody: `handfast dev examples.teams.agents:everybody` serves them, and whom they ask."""

from examples.teams.essay import essayist
from examples.teams.haggling import broker
from examples.teams.newsroom import publisher
from examples.teams.reception import reception
from examples.teams.report import chief
from examples.teams.restock import storekeeper

everybody = (chief, reception, publisher, broker, essayist, storekeeper)
