/**
 * The messages that a socket receives, as texts in their order. Binary ones are decompressed. The decoder is
 * loaded when the first one arrives. It mirrors `transport/client/connection.py`.
 */

import { HuahuoError } from "../model/errors.js";

/** Decompresses one binary message. Throws if it does not have the negotiated form. */
export type Decode = (frame: ArrayBuffer) => string;

/** The dictionary of a connection's binary messages, as the server announced it. */
export interface DictionaryPlace {
  readonly id: number;
  readonly url: string;
}

/** Reads the compressed form of the protocol. `huahuo-client/zstd` implements it. */
export interface Decoder {
  /**
   * Prepare for the messages of one connection.
   *
   * @param server the WebSocket's address
   * @param place null: the messages need no dictionary
   */
  open(server: string, place: DictionaryPlace | null): Promise<Decode>;
}

const READY_WITHIN_MS = 15_000;
/** Bound of the messages that wait for the decoder. The server's window allows less. */
const WAITING_CHARS_MAX = 32 << 20;

export class Inflow {
  private decode: Decode | null = null;
  private readonly waiting: (string | ArrayBuffer)[] = [];
  private waitingChars = 0;
  private over = false;

  /**
   * @param open prepares the decoder; null: binary messages were not negotiated
   * @param take gets the texts; an exception of it ends the inflow
   * @param fail is called once at the end, with the reason and whether a binary message was the cause
   */
  constructor(
    private readonly open: (() => Promise<Decode>) | null,
    private readonly take: (text: string) => void,
    private readonly fail: (error: unknown, binary: boolean) => void,
  ) {}

  /** Handle the next message of the socket. */
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

  /** End the inflow: further messages are dropped. */
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
