/** A long import: split into commands that a service takes, and shown as one job. */

import type { Commands, MailType, Reply } from "../model/model.js";

/** Of one command; a service refuses more. */
export const LINES_MAX = 20_000;
/** Of the text of one command, as JSON. A service takes messages of 1 MiB. */
export const BYTES_MAX = 512 * 1024;

/** The part of the client that an import uses. */
export interface Sends {
  send<A extends "begin_import" | "import_emails" | "end_import">(
    action: A, fields: Commands[A]["fields"],
  ): Promise<Reply & Commands[A]["reply"]>;
}

export interface ImportPiece {
  readonly data: string;
  /** The number of its first line in the whole text, from 1. */
  readonly line: number;
  /** Its lines that are not blank. */
  readonly lines: number;
}

export interface ImportFailure {
  readonly line: number;
  readonly reason: string;
}

/** What became of all lines, numbered as in the whole text. */
export interface ImportOutcome {
  readonly job: number | null;
  readonly total: number;
  readonly success: number;
  readonly failures: readonly ImportFailure[];
  /** It was cancelled or stopped; the lines that are counted were done. */
  readonly stopped: boolean;
}

export interface ImportOptions {
  readonly mailType?: MailType;
  /** Check each new mailbox at once, so that its status says whether the login works. */
  readonly validate?: boolean | "check";
  /** The reason given for a line that fits into no command. */
  readonly tooLong?: string;
  /** Called after each answer, with the number of lines in all. */
  readonly onProgress?: (now: ImportOutcome, lines: number) => void;
  /** Stops the import after the command under way. */
  readonly signal?: AbortSignal;
}

const COLUMNS = /(?:^|[,;\t|，；｜]|----|—{2,})\s*"?\s*email\s*"?\s*(?:$|[,;\t|，；｜]|----|—{2,})/i;

/** Cut at line ends. A first line that names columns begins each piece. */
export function importPieces(
  text: string, tooLong: string, linesMax = LINES_MAX, bytesMax = BYTES_MAX,
): { pieces: ImportPiece[]; failures: ImportFailure[] } {
  const pieces: ImportPiece[] = [];
  const failures: ImportFailure[] = [];
  const encoder = new TextEncoder();
  let head: string | null = null;
  let columns = "";
  let lines: string[] = [];
  let bytes = 0;
  let start = 1;
  const close = (): void => {
    const count = lines.filter((line) => line.trim() !== "").length - Number(columns !== "");
    if (count > 0) pieces.push({ data: lines.join("\n"), line: start, lines: count });
  };
  text.replace(/^\ufeff/, "").split(/\r\n|\r|\n/).forEach((given, i) => {
    let line = given;
    // as it will be written into JSON, where some characters take more
    let size = encoder.encode(JSON.stringify(line)).length + 2;
    if (size > bytesMax) {
      failures.push({ line: i + 1, reason: tooLong });
      line = ""; // so that those behind it keep their numbers
      size = 2;
    }
    if (head === null && line.trim() !== "" && !line.trimStart().startsWith("#")) {
      head = line;
      columns = COLUMNS.test(line) && !line.includes("@") ? line : "";
    }
    if (lines.length > 0 && (lines.length >= linesMax || bytes + size > bytesMax)) {
      close();
      lines = columns === "" ? [] : [columns];
      bytes = columns.length;
      start = columns === "" ? i + 1 : i;
    }
    lines.push(line);
    bytes += size;
  });
  close();
  return { pieces, failures };
}

/**
 * Import a text of any length: `await importEmails(client, text, { mailType: "outlook" })`.
 *
 * @throws what `send` throws; what was imported before stays, and the job ends as `interrupted`
 */
export async function importEmails(
  client: Sends, text: string, options: ImportOptions = {},
): Promise<ImportOutcome> {
  const { mailType = "outlook", validate = false, tooLong = "the line is too long", onProgress, signal } = options;
  const { pieces, failures } = importPieces(text, tooLong);
  let now: ImportOutcome = { job: null, total: failures.length, success: 0, failures, stopped: false };
  if (pieces.length === 0) return now;
  const lines = pieces.reduce((sum, piece) => sum + piece.lines, failures.length);
  const { job_id } = await client.send("begin_import", { lines });
  now = { ...now, job: job_id };
  let done = false;
  try {
    for (const piece of pieces) {
      if (signal?.aborted) return { ...now, stopped: true };
      const answer = await client.send("import_emails", { data: piece.data, mail_type: mailType, validate, job_id });
      const more = answer.failed_details.map(({ line, reason }) => ({ line: piece.line + line - 1, reason }));
      now = {
        ...now, total: now.total + answer.total, success: now.success + answer.success,
        failures: [...now.failures, ...more].sort((a, b) => a.line - b.line),
      };
      onProgress?.(now, lines);
    }
    done = true;
    return now;
  } catch (error) {
    if ((error as { code?: unknown }).code === "conflict") return { ...now, stopped: true }; // the job was cancelled
    throw error;
  } finally {
    await client.send("end_import", { job_id, stopped: !done }).catch(() => undefined);
  }
}
