/** The text of a file, in whichever encoding a program wrote it. */

/** Of a file without a mark that is UTF-16: one half of each character of an address is 0. */
const LOOKED_AT = 256;

/** UTF-8 and UTF-16 by their marks, UTF-16 without one by its zeros, else UTF-8, else GB 18030 (Chinese Windows). */
export function textOf(bytes: Uint8Array): string {
  const strict = (encoding: string): string => new TextDecoder(encoding, { fatal: true }).decode(bytes);
  const utf16 = ofUtf16(bytes);
  if (utf16) return new TextDecoder(utf16).decode(bytes);
  for (const encoding of ["utf-8", "gb18030"]) {
    try {
      return strict(encoding);
    } catch {
      // the next one
    }
  }
  return new TextDecoder("windows-1252").decode(bytes);
}

function ofUtf16(bytes: Uint8Array): string | null {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return "utf-16le";
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return "utf-16be";
  const zeros = [0, 0];
  bytes.subarray(0, LOOKED_AT).forEach((byte, at) => { if (byte === 0) zeros[at % 2]! += 1; });
  const most = Math.min(bytes.length, LOOKED_AT) / 4;
  if (zeros[1]! > most) return "utf-16le";
  return zeros[0]! > most ? "utf-16be" : null;
}
