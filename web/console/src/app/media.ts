/** How wide the window is, as the style sheets see it. */

import { ref, type Ref } from "vue";

function matches(query: string): Ref<boolean> {
  const list = matchMedia(query);
  const found = ref(list.matches);
  list.addEventListener("change", () => (found.value = list.matches));
  return found;
}

/** One column, rows as cards. */
export const narrow = matches("(max-width: 719px)");
/** Room for a second column. */
export const wide = matches("(min-width: 1100px)");
