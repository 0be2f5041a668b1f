"""The secrets of calls, read in the worker when a call begins: from its environment, files, Vault, or what you provide."""

from handfast.contracts.credentials import Wanted
from handfast.tools.credentials.provider import SecretsProvider
from handfast.tools.credentials.reader import Credentials, Given

__all__ = ["Credentials", "Given", "SecretsProvider", "Wanted"]
