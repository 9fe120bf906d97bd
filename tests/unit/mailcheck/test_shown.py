"""The text of HTML is what a browser shows."""

import pytest

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
