/** Short messages in the corner. They go by themselves; errors stay longer. */

import { shallowRef } from "vue";

export type Level = "info" | "success" | "warning" | "error";

export interface Toast {
  readonly id: number;
  readonly text: string;
  readonly level: Level;
  /** A notification of the system, not an answer to something done here. */
  readonly system: boolean;
}

const SHOWN_MAX = 5;
const SHOWN_MS: Readonly<Record<Level, number>> = { info: 8_000, success: 5_000, warning: 15_000, error: 20_000 };

export const toasts = shallowRef<readonly Toast[]>([]);
let count = 0;

export function toast(text: string, level: Level = "info", system = false): void {
  const one = { id: ++count, text, level, system };
  toasts.value = [...toasts.value, one].slice(-SHOWN_MAX);
  setTimeout(() => dismiss(one.id), SHOWN_MS[level]);
}

export function dismissAll(): void {
  toasts.value = [];
}

export function dismiss(id: number): void {
  toasts.value = toasts.value.filter((one) => one.id !== id);
}
