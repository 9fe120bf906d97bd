/** The language and the theme: what the reader chose, else what the browser says. Remembered here only. */

import { computed, ref, watchEffect } from "vue";
import type { Language } from "../model/format";
import * as format from "../model/format";
import { en, type Words } from "../words/en";
import { said } from "../words/said";
import { zh } from "../words/zh";

export const THEMES = ["system", "light", "dark"] as const;
export type Theme = (typeof THEMES)[number];

function remembered<T extends string>(key: string, allowed: readonly T[], otherwise: T): T {
  try {
    const kept = localStorage.getItem(key) as T | null;
    return kept !== null && allowed.includes(kept) ? kept : otherwise;
  } catch {
    return otherwise; // storage may be forbidden
  }
}

function remember(key: string, value: string): void {
  try {
    localStorage.setItem(key, value);
  } catch {
    // then it lasts as long as the page
  }
}

const ofBrowser: Language = navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
export const language = ref<Language>(remembered("huahuo.language", ["en", "zh"], ofBrowser));
export const theme = ref<Theme>(remembered("huahuo.theme", THEMES, "system"));

export const w = computed<Words>(() => (language.value === "zh" ? zh : en));

watchEffect(() => {
  document.documentElement.lang = language.value === "zh" ? "zh-CN" : "en";
  document.documentElement.dataset["theme"] = theme.value;
});

// The tab that holds the connection speaks for all, so each must know what another one chose.
addEventListener("storage", ({ key, newValue }) => {
  if (key === "huahuo.language" && (newValue === "en" || newValue === "zh")) language.value = newValue;
});

export function switchLanguage(): void {
  language.value = language.value === "zh" ? "en" : "zh";
  remember("huahuo.language", language.value);
}

export function nextTheme(): void {
  theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length] ?? "system";
  remember("huahuo.theme", theme.value);
}

/** What the server said, in the reader's language. */
export const heard = (text: string): string => said(text, language.value);
export const when = (text: string): string => format.when(text, language.value);
export const num = (value: number): string => format.number(value, language.value);
