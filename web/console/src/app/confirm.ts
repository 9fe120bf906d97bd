/** One question at a time, answered in a dialog. */

import { shallowRef } from "vue";

export interface Question {
  readonly title: string;
  readonly text: string;
  readonly action: string;
  readonly answer: (yes: boolean) => void;
}

export const question = shallowRef<Question | null>(null);

export function confirm(title: string, text: string, action: string): Promise<boolean> {
  question.value?.answer(false);
  return new Promise((resolve) => {
    question.value = {
      title, text, action,
      answer: (yes) => {
        question.value = null;
        resolve(yes);
      },
    };
  });
}
