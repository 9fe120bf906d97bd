/**
 * A WebSocket that counts. The client opens its connections with it; so the console can say how much
 * came in and what was acked, and cut the connection as a broken network would.
 */

const Native = globalThis.WebSocket;

export class Meter {
  bytesIn = 0;
  /** Connections that were opened, the first included. */
  opened = 0;
  /** The last ack, by stream. */
  acked = new Map<string, number>();
  private readonly open = new Set<WebSocket>();

  constructor(private readonly changed: () => void) {}

  /** The class to open connections with. */
  socket(): typeof WebSocket {
    const meter = this;
    return class extends Native {
      constructor(url: string | URL, protocols?: string | string[]) {
        super(url, protocols);
        this.addEventListener("open", () => {
          meter.opened += 1;
          meter.acked = new Map();
          meter.open.add(this);
        });
        this.addEventListener("message", ({ data }: MessageEvent<string | ArrayBuffer>) => {
          meter.bytesIn += typeof data === "string" ? byteLength(data) : data.byteLength;
        });
        this.addEventListener("close", () => meter.open.delete(this));
      }

      override send(data: Parameters<WebSocket["send"]>[0]): void {
        super.send(data);
        if (typeof data === "string" && data.startsWith('{"action":"ack"')) meter.noteAck(data);
      }
    };
  }

  /** As if the network were gone: the client hears at once that the connection is lost. */
  cut(): void {
    for (const socket of [...this.open]) {
      this.open.delete(socket);
      socket.dispatchEvent(new CloseEvent("close", { code: 1006 }));
      socket.close();
    }
  }

  private noteAck(message: string): void {
    const { cursors } = JSON.parse(message) as { cursors: Record<string, number> };
    for (const [stream, seq] of Object.entries(cursors)) this.acked.set(stream, seq);
    this.changed();
  }
}

/** Bytes as UTF-8, without making them: most messages are ASCII but for a few Chinese words. */
function byteLength(text: string): number {
  let bytes = text.length;
  for (let i = 0; i < text.length; i += 1) {
    const code = text.charCodeAt(i);
    if (code > 0x7f) bytes += code > 0x7ff && (code < 0xd800 || code > 0xdfff) ? 2 : 1;
  }
  return bytes;
}
