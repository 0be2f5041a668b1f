"""The `Link` field (RFC 8288): every way in which a service may write it, and none that raises."""

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handfast.tools.links import Link, find_link, parse_links

HERE = "https://api.example/v1/list?page=1"


def found(*values: str, relation: str = "next") -> str | None:
    request = httpx.Request("GET", HERE)
    response = httpx.Response(200, headers=[("link", value) for value in values], request=request)
    return find_link(response, relation)


@pytest.mark.parametrize(
    "value",
    [
        '</l?page=2>; rel="next"',
        "</l?page=2>; rel=next",
        "</l?page=2>;rel=next",
        '</l?page=2> ; rel = "next"',
        '</l?page=2>; REL="NEXT"',
        '</l?page=2>; rel="next last"',
        '</l?page=2>; rel="last\tnext"',
        "</l?page=2>; rel='next'",
        '</l?page=2>; title="a, b; c"; rel="next"',
        '</l?page=2>; title="<x>; rel=prev"; rel="next"',
        '</l?page=2>; title="say \\"hi\\", then; rel=prev"; rel="next"',
        "</l?page=2>; title*=UTF-8''next%20page; rel=next",
        '</l?page=2>; rel="next"; rel="prev"',
        '</l?page=2>; type="text/html"; hreflang=de; rel="next"; results="true"',
        '</l?page=2>; rel="next";',
        '</l?page=2>;; rel="next"',
        '</l?page=2>; flag; rel="next"',
        '</l?page=1>; rel="prev", </l?page=2>; rel="next", </l?page=9>; rel="last"',
        '</l?page=1>; rel="prev",</l?page=2>; rel="next"',
        ', ,</l?page=2>; rel="next"',
        '</l?page=2>; rel="https://example.com/own next"',
        '</other>; rel="next"; anchor="/elsewhere", </l?page=2>; rel="next"',
        f'</l?page=2>; rel="next"; anchor="{HERE}"',
        '</l?page=2>; rel="next"; anchor="?page=1"',
    ],
)
def test_a_link_is_found_however_it_is_written(value: str) -> None:
    """RFC 8288, sections 3, 3.2, 3.3 and appendix B.3."""
    assert found(value) == "/l?page=2"


@pytest.mark.parametrize(
    "value",
    [
        "", "garbage", '/l?page=2; rel="next"', '<https://x; rel="next"', "</l?page=2>", "</l?page=2>; rel", '</l?page=2>; rel=""',
        '</l?page=2>; rel="prev"; rel="next"', '</l?page=2>; rel="nextpage"', '</l?page=2>; rev="next"', "</l?page=2>; title=next",
        '</l?page=2>; rel="next"; anchor="/elsewhere"', '</l?page=2>; rel="next"; anchor="#part"', '</l>; rel="next', "<>", ";;;,,,",
    ],
)  # fmt: skip
def test_what_is_no_link_to_the_next_page_is_none(value: str) -> None:
    """RFC 8288, section 3.3: of several `rel` the first counts; section 3.2: a link with another anchor is not about this page."""
    expected = "/l" if value == '</l>; rel="next' else None
    assert found(value) == expected


def test_a_target_may_hold_commas_and_semicolons() -> None:
    assert found('</l?ids=1,2;3>; rel="next"') == "/l?ids=1,2;3"


def test_all_link_fields_of_an_answer_count() -> None:
    """RFC 9110, section 5.3: several fields of a name are one list."""
    assert found('</first>; rel="first"', "garbage", '</l?page=2>; rel="next"') == "/l?page=2"


def test_parameters_are_unquoted_and_the_first_of_a_name_counts() -> None:
    assert parse_links(['<a>; Title="x \\"y\\" \\\\"; title=z; rel=Next']) == [
        Link(target="a", parameters={"title": 'x "y" \\', "rel": "Next"})
    ]


def test_a_field_of_a_million_links_is_read_as_far_as_anybody_needs() -> None:
    assert len(parse_links(["<a>; rel=x, " * 100_000])) == 1000


@settings(max_examples=400)
@given(st.lists(st.text(alphabet="<>;,=\"\\ \tarelnxt'*?/é", max_size=60), max_size=4))
def test_no_link_field_raises(values: list[str]) -> None:
    for link in parse_links(values):
        assert "rel" in link.parameters or not link.relations


TEXTS = st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=20)


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.text(alphabet="abc/?&=,;:1", min_size=1), TEXTS, st.permutations(["next", "up", "last"])),
        min_size=1,
        max_size=5,
    )
)
def test_every_link_is_read_as_it_was_written(links: list[tuple[str, str, list[str]]]) -> None:
    quoted = [title.replace("\\", "\\\\").replace('"', '\\"') for _, title, _ in links]
    value = ", ".join(
        f'<{target}>; title="{title}"; rel="{" ".join(rels)}"'
        for (target, _, rels), title in zip(links, quoted, strict=True)
    )
    assert [(link.target, link.parameters["title"], link.relations) for link in parse_links([value])] == [
        (target, title, frozenset(rels)) for target, title, rels in links
    ]
