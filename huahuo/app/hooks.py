"""The deliveries of webhooks, put together."""

from huahuo.actors.plugins.actions import Registry
from huahuo.actors.plugins.plugin import Host
from huahuo.users.book import UserBook
from huahuo.webhooks.posting import Posting
from huahuo.webhooks.webhooks import Webhooks


def webhooks_of(host: Host, registry: Registry, users: UserBook, *, allow_private: bool) -> Webhooks:
    """Not begun. `allow_private`: addresses of the service's own network may be posted to."""
    webhooks = Webhooks(
        log=host.log,
        feed=host.feed,
        ambient=host.ambient,
        registry=registry,
        users=users,
        posting=Posting(host.ambient, allow_private=allow_private, resolver=host.resolver),
        allow_private=allow_private,
        wait_s=host.wait_s,
        shared=host.shared,
    )
    webhooks.show(host.metrics)
    return webhooks
