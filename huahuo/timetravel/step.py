"""`huahuo replay step`: a terminal program that walks through an entity's events. Needs Textual."""

from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Footer, Header, Input, Static

from huahuo.actors.plugins.past import AS_STORED, Reader
from huahuo.eventstore.ambient import Ambient
from huahuo.replay.history.conditions import parse, parse_path
from huahuo.replay.history.history import parse_moment
from huahuo.replay.history.timeline import Stepper, View
from huahuo.terminal import printable
from huahuo.timetravel.look import change_text, event_text, state_texts, told_change, value_text

_ASKS = {
    "jump": "go to: SEQ, @POSITION, a time or -5m",
    "search": "find text in the next events",
    "until": "find a condition: status == 'error'",
    "watch": "watch a field: progress",
}


class StepApp(App[None]):
    """One entity, one moment at a time."""

    AUTO_FOCUS = None
    CSS = """
    #state, #event { width: 1fr; border: round $primary; padding: 0 1; }
    #watched { height: auto; max-height: 8; padding: 0 1; }
    #ask { dock: bottom; display: none; }
    #ask.open { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,n,space", "forward", "forward"),
        Binding("left,p", "backward", "back"),
        Binding("pagedown", "forward(20)", "on 20", show=False),
        Binding("pageup", "backward(20)", "back 20", show=False),
        Binding("home", "first", "start"),
        Binding("end", "last", "end"),
        Binding("g", "ask('jump')", "go to"),
        Binding("slash", "ask('search')", "find"),
        Binding("question_mark", "ask('until')", "condition"),
        Binding("w", "ask('watch')", "watch"),
        Binding("escape", "close", "close", show=False),
        Binding("q", "quit", "quit"),
    ]

    def __init__(self, stepper: Stepper, ambient: Ambient, reader: Reader = AS_STORED) -> None:
        super().__init__()
        self._reader = reader
        self.stepper = stepper
        self.now: View | None = None
        self._ambient = ambient
        self._asking = ""
        self.title = f"huahuo replay {stepper.subject.entity}"

    def compose(self) -> ComposeResult:
        """The widgets."""
        yield Header()
        yield Static(id="watched")
        with Horizontal():
            with VerticalScroll(id="event", can_focus=False):
                yield Static(id="what")
            with VerticalScroll(id="state", can_focus=False):
                yield Static(id="shown")
        yield Input(id="ask")
        yield Footer()

    async def on_mount(self) -> None:
        """Find the events and show the newest."""
        await self.stepper.load()
        self._show(await self.stepper.last())

    async def action_forward(self, steps: int = 1) -> None:
        """Go `steps` events forward."""
        self._show(await self.stepper.forward(steps))

    async def action_backward(self, steps: int = 1) -> None:
        """Go `steps` events back."""
        self._show(await self.stepper.backward(steps))

    async def action_first(self) -> None:
        """Go before the first event."""
        self._show(await self.stepper.first())

    async def action_last(self) -> None:
        """Go to the newest event."""
        self._show(await self.stepper.last())

    def action_ask(self, what: str) -> None:
        """Open the input line."""
        self._asking = what
        line = self.query_one("#ask", Input)
        line.placeholder = _ASKS[what]
        line.value = ""
        line.add_class("open")
        line.focus()

    def action_close(self) -> None:
        """Close the input line."""
        self.query_one("#ask", Input).remove_class("open")
        self.set_focus(None)

    async def on_input_submitted(self, message: Input.Submitted) -> None:
        """Carry out the request with the input."""
        self.action_close()
        try:
            found = await self._answered(message.value)
        except ValueError as error:
            self.notify(printable(str(error)), severity="error", markup=False)
            return
        if found is None:
            self.notify("not found", severity="warning")
        else:
            self._show(found)

    async def _answered(self, text: str) -> View | None:
        stepper = self.stepper
        match self._asking:
            case "jump":
                return await stepper.jump(parse_moment(text, self._ambient.now_ms()))
            case "search":
                return await stepper.search(text)
            case "until":
                return await stepper.until(parse(text))
            case _:
                stepper.watch(parse_path(text))
                return await stepper.view()

    def _show(self, view: View) -> None:
        self.now = view
        self.sub_title = f"event {view.number} of {view.count}, @{view.position}"
        what = [
            Text("before the first event")
            if view.event is None
            else event_text(self._reader.event(view.event))
        ]
        what += [change_text(told_change(change, self._reader), "  ") for change in view.changes]
        if view.acks:
            what.append(Text("\nclients (their last stored ack)", style="bold"))
        for ack, past in view.acks:
            who = printable(f"  {ack.user} {ack.client} {ack.stream}#{ack.seq}")
            what.append(Text(f"{who} {'has processed this' if past else 'is not here yet'}"))
        self.query_one("#what", Static).update(Text("\n").join(what))
        self.query_one("#shown", Static).update(Text("\n").join(state_texts(self._reader.state(view.state))))
        watched = [
            Text.assemble((printable(name), "bold cyan"), " = ", printable(value_text(value)))
            for name, value in view.watched
        ]
        self.query_one("#watched", Static).update(Text("\n").join(watched))
