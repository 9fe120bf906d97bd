/** The text of a file, in whichever encoding a program wrote it. */

/** Of a file without a mark that is UTF-16: one half of each character of an address is 0. */
const LOOKED_AT = 256;

/**
 * UTF-8 and UTF-16 by their marks, UTF-16 without one by its zeros, else UTF-8, else GB 18030 (Chinese Windows).
 * A file that is UTF-8 but for a few places, as one that was cut short, stays so: what is wrong there is shown.
 */
export function textOf(bytes: Uint8Array): string {
  const utf16 = ofUtf16(bytes);
  if (utf16) return new TextDecoder(utf16).decode(bytes);
  const utf8 = new TextDecoder().decode(bytes);
  if (isMostlyRead(utf8)) return utf8;
  try {
    return new TextDecoder("gb18030", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("windows-1252").decode(bytes);
  }
}

/** Of GB 18030 some bytes look like UTF-8 too: hardly four characters for each that does not. */
const TO_ONE_WRONG = 4;

/** Whether of what is not ASCII nearly all could be read. */
function isMostlyRead(text: string): boolean {
  let [read, wrong] = [0, 0];
  for (let at = 0; at < text.length; at += 1) {
    const unit = text.charCodeAt(at);
    if (unit === 0xfffd) wrong += 1;
    else if (unit > 0x7f) read += 1;
  }
  return read >= TO_ONE_WRONG * wrong;
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
