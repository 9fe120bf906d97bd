"""An actor that fails when it is told to."""

from typing import Any, ClassVar

from huahuo.actors import LoopActor, Restart, Supervision


class Fragile(LoopActor):
    """Fails on "boom". `starts` is shared by all successive objects of one ref."""

    supervision: ClassVar[Supervision] = Restart(jitter=0)

    def __init__(self, log: list[Any]) -> None:
        super().__init__()
        self.log = log
        self.count = 0

    def on_start(self) -> None:
        self.log.append("start")

    def on_receive(self, message: Any) -> Any:
        if message == "boom":
            self.log.append("boom")
            raise ValueError("a secret")
        self.count += 1
        self.log.append(message)
        return self.count

    def on_failure(self, exception_type: Any, exception_value: Any, traceback: Any) -> None:
        self.log.append("on_failure")

    def on_stop(self) -> None:
        self.log.append("on_stop")
