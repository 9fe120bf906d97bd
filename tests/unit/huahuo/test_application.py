"""What `Huahuo` takes."""

from huahuo import Huahuo
from huahuo.actors.plugins.plugin import Plugin


def test_plugins_of_a_generator_are_kept() -> None:
    class Named(Plugin):
        name = "named"

    plugin = Named()
    assert plugin in Huahuo(plugins=(one for one in [plugin])).plugins()
