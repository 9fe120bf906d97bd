/** Sign-in with a name and a password. What was typed goes to `/login` and nowhere else. */

export type LoginEnd = { token: string } | { wrong: true } | { waitS: number } | { failed: true };

export async function login(username: string, password: string): Promise<LoginEnd> {
  try {
    const answer = await fetch("/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ username, password }),
      cache: "no-store",
    });
    if (answer.status === 401) return { wrong: true };
    if (answer.status === 429) return { waitS: Number(answer.headers.get("Retry-After")) || 60 };
    if (!answer.ok) return { failed: true };
    const body: unknown = await answer.json();
    const token = typeof body === "object" && body !== null && "token" in body ? body.token : null;
    return typeof token === "string" ? { token } : { failed: true };
  } catch {
    return { failed: true };
  }
}
