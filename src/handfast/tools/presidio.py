"""Further kinds of personal data, recognised by Microsoft's Presidio (extra `presidio`): those that have a form, such as `US_SSN`.

Names of people and places have none: they would need a language model, which is no part of this.
"""

from functools import cache
from typing import Any

from handfast.contracts.errors import ContractError

LANGUAGE = "en"
SURE_ENOUGH = 0.4
"""Presidio's score from which something is taken for what it may be."""
FORMLESS = frozenset({"PERSON", "LOCATION", "NRP", "ORGANIZATION", "DATE_TIME"})
LISTED = frozenset({"EMAIL_ADDRESS", "URL"})
"""What is checked against a list of domains that would be fetched from outside. For mail there is `mail`."""


@cache
def recognisable() -> frozenset[str]:
    """The kinds that can be recognised here.

    Raises:
        ContractError: Presidio is not installed.
    """
    return frozenset(_analyzer().get_supported_entities()) - FORMLESS - LISTED


def recognise(text: str, kinds: tuple[str, ...]) -> list[tuple[int, int, str]]:
    """Where personal data of these kinds is in a text, and of which kind: from, to (exclusive), kind."""
    found = _analyzer().analyze(text=text, language=LANGUAGE, entities=list(kinds), score_threshold=SURE_ENOUGH)
    return sorted((one.start, one.end, str(one.entity_type)) for one in found)


@cache
def _analyzer() -> Any:
    """Presidio over a pipeline without a language model: three seconds to make, so a worker does it when it starts."""
    try:
        import spacy
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import SpacyNlpEngine
    except ImportError as error:
        fault = "hides= names personal data that Presidio recognises: install handfast[presidio] on the workers"
        raise ContractError("this worker", [fault]) from error
    engine: Any = SpacyNlpEngine(models=[{"lang_code": LANGUAGE, "model_name": "blank"}])
    engine.nlp = {LANGUAGE: spacy.blank(LANGUAGE)}
    registry: Any = RecognizerRegistry(supported_languages=[LANGUAGE])
    registry.load_predefined_recognizers(languages=[LANGUAGE])
    return AnalyzerEngine(nlp_engine=engine, registry=registry, supported_languages=[LANGUAGE])
