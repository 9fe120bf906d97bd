/** Sign-in with a name and a password. What was typed goes to `login` and nowhere else. */

import { BASE } from "./base";

export type LoginEnd = { token: string } | { refused: string } | { wrong: true } | { waitS: number } | { failed: true };

/** Whether anybody may make an account here. A service that cannot say it has none. */
export async function mayRegister(): Promise<boolean> {
  try {
    const answer = await fetch(`${BASE}accounts`, { cache: "no-store" });
    const body: unknown = answer.ok ? await answer.json() : null;
    return typeof body === "object" && body !== null && "registration" in body && body.registration === true;
  } catch {
    return false;
  }
}

export const login = (username: string, password: string): Promise<LoginEnd> => signedIn("login", username, password);

/** A new account, and a token for it. */
export const register = (username: string, password: string): Promise<LoginEnd> => signedIn("accounts", username, password);

async function signedIn(path: string, username: string, password: string): Promise<LoginEnd> {
  try {
    const answer = await fetch(BASE + path, {
      method: "POST",
      headers: { "Content-Type": "application/json", "Accept-Language": document.documentElement.lang || "en" },
      body: JSON.stringify({ username, password }),
      cache: "no-store",
    });
    if (answer.status === 401) return { wrong: true };
    if (answer.status === 429) return { waitS: Number(answer.headers.get("Retry-After")) || 60 };
    if (path === "accounts" && !answer.ok) return { refused: await reasonOf(answer) };
    if (!answer.ok) return { failed: true };
    const body: unknown = await answer.json();
    const token = typeof body === "object" && body !== null && "token" in body ? body.token : null;
    return typeof token === "string" ? { token } : { failed: true };
  } catch {
    return { failed: true };
  }
}

/** What a refusal says, in the language of this browser's request. */
async function reasonOf(answer: Response): Promise<string> {
  const body: unknown = await answer.json().catch(() => null);
  const said = typeof body === "object" && body !== null && "detail" in body ? body.detail : "";
  return typeof said === "string" ? said : "";
}
