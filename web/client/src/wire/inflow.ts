/**
 * What a socket receives, as texts in the order in which it came: binary messages are unpacked, and the
 * decoder is loaded when the first one needs it. The mirror of `transport/client/inflow.py`.
 */

import { HuahuoError } from "../model/errors.js";

/** Unpacks one binary message; throws at anything that is not as agreed upon. */
export type Decode = (frame: ArrayBuffer) => string;

/** With what a connection's binary messages are made, as the server announced it. */
export interface DictionaryPlace {
  readonly id: number;
  readonly url: string;
}

/** Reads the compressed form of the protocol; `huahuo-client/zstd` is one. */
export interface Decoder {
  /**
   * Be ready for the messages of one connection.
   *
   * @param server the WebSocket's address
   * @param place null: they are made without a dictionary
   */
  open(server: string, place: DictionaryPlace | null): Promise<Decode>;
}

const READY_WITHIN_MS = 15_000;
/** What may wait for the decoder; the server's window holds less. */
const WAITING_CHARS_MAX = 32 << 20;

export class Inflow {
  private decode: Decode | null = null;
  private readonly waiting: (string | ArrayBuffer)[] = [];
  private waitingChars = 0;
  private over = false;

  /**
   * @param open makes the decoder ready; null: no binary messages were agreed upon
   * @param take gets the texts; what it throws ends the inflow
   * @param fail is told once why nothing more comes, and whether a binary message was the cause
   */
  constructor(
    private readonly open: (() => Promise<Decode>) | null,
    private readonly take: (text: string) => void,
    private readonly fail: (error: unknown, binary: boolean) => void,
  ) {}

  /** The next message of the socket. */
  received(data: string | ArrayBuffer): void {
    if (this.over) return;
    if (this.waiting.length === 0 && (typeof data === "string" || this.decode || !this.open)) {
      this.deliver(data);
      return;
    }
    this.waiting.push(data);
    this.waitingChars += typeof data === "string" ? data.length : data.byteLength;
    if (this.waiting.length === 1) void this.prepare();
    if (this.waitingChars > WAITING_CHARS_MAX) this.end(new Error("too much waits for the decoder"), true);
  }

  /** Nothing is taken any more. */
  close(): void {
    this.over = true;
    this.waiting.length = 0;
  }

  private async prepare(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error("the decoder was not ready in time")), READY_WITHIN_MS);
      });
      this.decode = await Promise.race([(this.open as () => Promise<Decode>)(), late]);
    } catch (error) {
      this.end(error, true);
      return;
    } finally {
      clearTimeout(timer);
    }
    for (const data of this.waiting) if (!this.over) this.deliver(data);
    this.waiting.length = 0;
  }

  private deliver(data: string | ArrayBuffer): void {
    const binary = typeof data !== "string";
    try {
      if (binary && !this.decode) throw new HuahuoError("protocol_violation", "the server sent a binary message");
      this.take(binary ? (this.decode as Decode)(data) : data);
    } catch (error) {
      this.end(error, binary && this.open !== null);
    }
  }

  private end(error: unknown, binary: boolean): void {
    if (this.over) return;
    this.close();
    this.fail(error, binary);
  }
}
