"""The secrets of calls, read in the worker when a call begins: from its environment, files, Vault, or what you provide."""

from holdfast.contracts.credentials import Wanted
from holdfast.tools.credentials.provider import SecretsProvider
from holdfast.tools.credentials.reader import Credentials, Given

__all__ = ["Credentials", "Given", "SecretsProvider", "Wanted"]
