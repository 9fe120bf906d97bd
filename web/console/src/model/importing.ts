/** A pasted list of accounts in pieces that the server takes, and their answers as one. Pure. */

export const LINES_MAX = 5000;
export const BYTES_MAX = 512 * 1024;

export interface Piece {
  readonly data: string;
  /** The number of its first line in the whole text, from 1. */
  readonly line: number;
}

export interface Failure {
  readonly line: number;
  readonly reason: string;
}

export interface Outcome {
  total: number;
  success: number;
  failed: number;
  failures: Failure[];
}

export const nothing = (): Outcome => ({ total: 0, success: 0, failed: 0, failures: [] });

/** Cut at line ends. A line too long for any message is left out and returned as a failure. */
export function pieces(
  text: string, tooLong: string, linesMax = LINES_MAX, bytesMax = BYTES_MAX,
): { pieces: Piece[]; failures: Failure[] } {
  const found: Piece[] = [];
  const failures: Failure[] = [];
  const encoder = new TextEncoder();
  let lines: string[] = [];
  let bytes = 0;
  let start = 1;
  const close = (next: number): void => {
    if (lines.some((line) => line.trim() !== "")) found.push({ data: lines.join("\n"), line: start });
    lines = [];
    bytes = 0;
    start = next;
  };
  text.split(/\r\n|\r|\n/).forEach((line, i) => {
    // as it will be written into JSON, where some characters take more
    const size = encoder.encode(JSON.stringify(line)).length;
    const fits = size <= bytesMax;
    if (!fits) failures.push({ line: i + 1, reason: tooLong });
    if (lines.length >= linesMax || bytes + size > bytesMax) close(i + 1);
    lines.push(fits ? line : "");
    bytes += fits ? size : 1;
  });
  close(0);
  return { pieces: found, failures };
}

interface Answer {
  readonly total: number;
  readonly success: number;
  readonly failed: number;
  readonly failed_details: readonly Failure[];
}

/** Add the answer for `piece`, its lines numbered as in the whole text. */
export function add(outcome: Outcome, piece: Piece, answer: Answer): void {
  outcome.total += answer.total;
  outcome.success += answer.success;
  outcome.failed += answer.failed;
  for (const { line, reason } of answer.failed_details) {
    outcome.failures.push({ line: piece.line + line - 1, reason });
  }
}
