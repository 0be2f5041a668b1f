"""Lone surrogates: halves of characters, which no UTF-8 text, database column or request body can hold."""


def without_surrogates(text: str) -> str:
    """The text as valid Unicode: pairs become the character that they stand for, and each half alone becomes U+FFFD.

    JSON may escape any code unit (RFC 8259, section 8.2), and a stream may cut a pair in two.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
