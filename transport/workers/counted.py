"""Metrics of several processes as one text: a worker sends its samples, the owner labels and merges them."""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from huahuo.transport.server.metrics import Metrics

LABEL: Final = "worker"

type _Sample = tuple[str, dict[str, str], float]
type _Family = tuple[str, str, str, list[_Sample]]

_FAMILIES: Final = msgspec.msgpack.Decoder(list[_Family])


def counted(metrics: Metrics) -> bytes:
    """The metrics of this process, for `merged`."""
    families = [
        (
            family.name,
            family.documentation,
            family.type,
            [(one.name, dict(one.labels), float(one.value)) for one in family.samples],
        )
        for family in metrics.registry.collect()
    ]
    return msgspec.msgpack.encode(families)


class _Merged(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def merged(own: Metrics, of_workers: Mapping[int, bytes | None]) -> bytes:
    """One text: the owner's samples as they are, and those of each worker with the label `worker`.

    None: that worker did not answer, so only `huahuo_worker_up` tells of it.
    """
    families = {family.name: family for family in own.registry.collect()}
    up = Metric("huahuo_worker_up", "Whether a worker answered this scrape.", "gauge")
    for number, encoded in of_workers.items():
        labels = {LABEL: str(number)}
        up.add_sample(up.name, labels, float(encoded is not None))
        for name, text, kind, samples in _FAMILIES.decode(encoded) if encoded is not None else ():
            family = families.get(name)
            if family is None:
                family = families[name] = Metric(name, text, kind)
            for sample, more, value in samples:
                family.add_sample(sample, more | labels, value)
    return generate_latest(_Merged([*families.values(), up]))
