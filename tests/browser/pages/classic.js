// A page as people wrote it for the original service: no library, no subprotocol, no acks. It authenticates
// with a message, looks at `type`, answers heartbeats and comes back after three seconds or less.
class WebSocketClient {
  constructor(url, token) {
    this.url = url;
    this.token = token;
    this.progress = {};
    this.messages = [];
    this.reconnectDelay = 100;
    this.connect();
  }

  connect() {
    this.socket = new WebSocket(this.url);
    this.socket.onopen = () => this.send({ action: "authenticate", token: this.token });
    this.socket.onmessage = (event) => this._handleMessage(JSON.parse(event.data));
    this.socket.onclose = () => {
      document.getElementById("status").textContent = "已断开";
      setTimeout(() => this.connect(), this.reconnectDelay);
    };
  }

  send(message) {
    this.socket.send(JSON.stringify(message));
  }

  _handleMessage(data) {
    this.messages.push(data);
    switch (data.type) {
      case "authentication_result":
        document.getElementById("status").textContent = data.success ? "已连接" : data.message;
        if (data.success) this.send({ action: "get_all_emails" });
        break;
      case "emails_list":
        document.getElementById("emails").replaceChildren(
          ...data.data.map((email) => {
            const item = document.createElement("li");
            item.id = `email-${email.id}`;
            item.textContent = `${email.email} ${email.status}`;
            return item;
          }),
        );
        break;
      case "check_progress":
        (this.progress[data.email_id] ??= []).push(data.progress);
        break;
      case "email_status_update": {
        const item = document.getElementById(`email-${data.email_id}`);
        if (item) item.textContent = `${item.textContent.split(" ")[0]} ${data.status}`;
        break;
      }
      case "system_notification":
        document.getElementById("notification").textContent = data.message;
        break;
      case "heartbeat":
        this.send({ action: "heartbeat_response" });
        break;
    }
  }

  checkEmails(ids) {
    this.send({ action: "check_emails", email_ids: ids });
  }
}

const query = new URLSearchParams(location.search);
window.client = new WebSocketClient(query.get("server"), location.hash.slice(1));
