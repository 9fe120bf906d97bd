"""What `Huahuo` takes."""

from huahuo import Huahuo
from huahuo.mailcheck import mail


def test_plugins_of_a_generator_are_kept() -> None:
    plugin = mail()
    assert plugin in Huahuo(plugins=(one for one in [plugin])).plugins()
