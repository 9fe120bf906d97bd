"""Drivers with sockets that are written to past their transports: see `huahuo.transport.wire.sends`."""

from collections.abc import Callable, Sequence
from typing import Any

from huahuo.transport.wire.sends import Sends
from tests.support.drivers.session import Driver


class Sockets:
    """Stands for the part in C. A descriptor is a place in `drivers`."""

    def __init__(self) -> None:
        self.drivers: list[DirectDriver] = []
        self.written = 0
        """Frames that a socket took whole, and that were not written by a driver itself."""
        self.fails = False

    def sends(self) -> Sends:
        return Sends(send_each=self.send_each)

    def send_each(self, descriptors: Sequence[int], frames: Sequence[bytes]) -> list[tuple[int, int]]:
        if self.fails:
            raise MemoryError
        assert len(set(descriptors)) == len(descriptors), "a descriptor occurs once in a call"
        short = []
        for at, (descriptor, frame) in enumerate(zip(descriptors, frames, strict=True)):
            driver = self.drivers[descriptor]
            if driver.takes_bytes is not None:
                short.append((at, driver.takes_bytes))
                driver.takes_bytes = None
            else:
                driver.take_frame(frame)
                self.written += 1
        return short


class DirectDriver(Driver):
    """A driver with a socket. Of the next frame that is written directly it takes `takes_bytes` bytes."""

    def __init__(self, sockets: Sockets, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.collected = -1
        self.takes_bytes: int | None = None
        self.aborted = False
        self.takes_direct = True
        self.failures = 0
        self._descriptor = len(sockets.drivers)
        self._leave: Callable[[], None] | None = None
        sockets.drivers.append(self)

    @property
    def is_in_step(self) -> bool:
        """Whether it is in a cohort."""
        return self._leave is not None

    def direct(self, leave: Callable[[], None]) -> tuple["DirectDriver", int] | None:  # type: ignore[override]
        assert self._leave is None, "it is in a cohort already"
        if self.hold_events or not self.takes_direct:
            return None
        self._leave = leave
        return self, self._descriptor

    def on_its_own(self) -> None:
        assert self._leave is not None, "it was in no cohort"
        self._leave = None

    def count_written(self, events: int, size_bytes: int) -> None:
        assert events > 0, "something was written"
        assert size_bytes > 0, "something was written"

    def failed(self) -> None:
        self.failures += 1

    def go_alone(self) -> None:
        """Something else is written than the frames of a cohort."""
        if self._leave is not None:
            self._leave()

    def write(self, data: bytes) -> None:
        self.go_alone()
        self.take_frame(data)

    def write_rest(self, frame: bytes, written: int) -> None:
        """The rest comes at once."""
        assert written < len(frame), "there is a rest"
        self.write(frame)

    def take_frame(self, frame: bytes) -> None:
        """The client has it."""
        super().write(frame)

    def abort(self) -> None:
        self.aborted = True
