"""The text of HTML is what a browser shows."""

import time

import pytest

from huahuo.mailcheck.codes.finding import code_of
from huahuo.mailcheck.mime.shown import shown_text


@pytest.mark.parametrize(
    "hidden",
    [
        '<p style="display: none !important">482913</p>',
        '<p style="visibility:hidden">482913</p>',
        '<p style="opacity:0.0">482913</p>',
        '<div style="max-height:0;overflow:hidden"><p>482913</p></div>',
        '<div style="font-size:0px">482913</div>',
        "<p hidden>482913</p>",
        "<!--[if mso]><p>482913</p><![endif]-->",
        '<div bgcolor="#FFF"><span style="color:white">482913</span></div>',
        "<style>.pre { display:none }</style><p class=pre>482913</p>",
        "<p style='display:none'><b>482913",
    ],
)
def test_what_is_hidden_is_no_text(hidden: str) -> None:
    assert "482913" not in shown_text(f"<p>Your code</p>{hidden}")


@pytest.mark.parametrize("title", ["iPhone17", "COVID19", "PS5PRO"])
def test_a_subject_of_one_word_with_digits_is_no_code(title: str) -> None:
    assert code_of(title, "It is in the shops now. Sign in to see it.", "") is None


@pytest.mark.parametrize(
    "part",
    [
        "<script",
        "<!--",
        "<!",
        "<a ",
        "<a \"'",
        "<div>",
        "</div>",
        "<b><i></b>",
        "<style>",
        "<style>{",
        '<p x="',
    ],
)
def test_no_markup_takes_long(part: str) -> None:
    before = time.process_time()

    shown_text(part * (300_000 // len(part)))

    assert time.process_time() - before < 2
