// Pages that chat by the SDK's own chat and transport; prints what each shows at the end, as one line of JSON.
import { AbstractChat, DefaultChatTransport } from "ai";

const [url] = process.argv.slice(2);

class State {
  status = "ready";
  error = undefined;
  constructor(messages) {
    this.messages = messages;
  }
  pushMessage = (message) => (this.messages = [...this.messages, message]);
  popMessage = () => (this.messages = this.messages.slice(0, -1));
  replaceMessage = (at, message) => (this.messages = this.messages.toSpliced(at, 1, message));
  snapshot = (thing) => structuredClone(thing);
}

class Page extends AbstractChat {
  constructor(id, messages = []) {
    super({ id, state: new State(messages), transport: new DefaultChatTransport({ api: `${url}/api/chat` }) });
  }
  texts = () => this.messages.map((message) => message.parts.map((part) => part.text ?? "").join(""));
  shows = () => [this.status, this.texts()];
}

const said = {};
const empty = new Page("nothing-was-asked");
await empty.resumeStream();
said.empty = empty.shows();

const asking = new Page("c1");
const answered = asking.sendMessage({ text: "why" });
while (!asking.texts()[1]) await new Promise((done) => setTimeout(done, 10));
const question = [asking.messages[0]];
const reloaded = new Page("c1", question);
await Promise.all([answered, reloaded.resumeStream()]);
said.asking = asking.shows();
said.reloaded = reloaded.shows();

const late = new Page("c1", question);
await late.resumeStream();
said.late = late.shows();

const first = asking.messages.at(-1).id;
await asking.regenerate();
said.regenerated = asking.messages.at(-1).id !== first;
console.log(JSON.stringify(said));
